"""Promises about money that virtual keys may spend."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from selftest.books import TOLERANCE_USD, await_agreement, books_of
from selftest.stack import LONG, SHORT, Stack
from selftest.traffic import request_of
from selftest.verdicts import DoesNotHold, NotTried, Promise, Trial

BUDGET_USD = Decimal("0.0015")  # some eight long answers
CLIENTS = 16
REQUESTS = 64
LONGEST_ANSWER_TOKENS = 40
AMPLE_USD = "10"
NO_ADMIN_KEY = "set GATEWAY_ADMIN_KEY for the stack (in .env), start it again, and run this again"


def budgets_are_not_overspent(stack: Stack, trial: Trial) -> str:
    key_id, key = budget_key(stack, str(BUDGET_USD))
    before = books_of(stack)

    def ask(number: int) -> Any:
        return stack.chat(key=key, max_tokens=LONGEST_ANSWER_TOKENS, **request_of(number))

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, range(REQUESTS)))
    trial.times = len(answers)
    await_agreement(stack, before)
    billed = sum(
        (mock.bill().cost_usd - before.billed[mock.name].cost_usd for mock in stack.mocks), Decimal(0)
    )
    refused = [answer for answer in answers if answer.status == 429]
    whole = sum(answer.looks_whole for answer in answers)
    told = f"{billed.normalize():f} of {BUDGET_USD} USD spent, {whole} answered, {len(refused)} refused"
    trial.expect(billed <= BUDGET_USD, told)
    trial.expect(whole > 0 and bool(refused) and whole + len(refused) == len(answers), told)
    codes = {answer.code for answer in refused}
    trial.expect(codes == {"429 insufficient_quota"}, f"refused with {', '.join(sorted(codes))}")
    require_no_hold(stack, key_id)
    spent = stack.key_record(key_id)["budget_spent_usd"]
    trial.expect(abs(spent - billed) <= TOLERANCE_USD, f"the key says {spent} USD, the models bill {billed}")
    return told


def holds_come_back(stack: Stack, trial: Trial) -> str:
    key_id, key = budget_key(stack, AMPLE_USD)
    with stack.failing(cheap="cut_midstream", expensive="slow=2"), ThreadPoolExecutor(6) as pool:
        for content, leave_after in ((SHORT, None), (LONG, 0.5)):
            list(
                pool.map(
                    lambda n, c=content, after=leave_after: stack.chat(
                        c, key=key, stream=n % 2 == 1, leave_after=after
                    ),
                    range(6),
                )
            )
            trial.times += 6
    freed = require_no_hold(stack, key_id)
    return f"nothing held any more after {freed:.1f} s"


def budget_key(stack: Stack, usd: str) -> tuple[str, str]:
    """A new key with a budget: its id and its text.

    :raises NotTried: without the admin key
    """
    if stack.settings.admin_key is None:
        raise NotTried(NO_ADMIN_KEY)
    return stack.make_key(budget_usd=usd)


def require_no_hold(stack: Stack, key_id: str) -> float:
    """Wait until nothing of the key's budget is held, by the gateway's word and by Redis; give the seconds.

    :raises DoesNotHold: where something stays held
    """
    begun = time.monotonic()
    while held := _held(stack, key_id):
        if time.monotonic() - begun > stack.settings.patience:
            raise DoesNotHold(f"{held} {stack.settings.patience:g} s after the last call ended")
        time.sleep(0.2)
    return time.monotonic() - begun


def _held(stack: Stack, key_id: str) -> str:
    """What is still held, in words; empty where nothing is."""
    prefix = stack.settings.redis_key_prefix
    with stack.redis() as client:
        budget, holds = f"{prefix}:budget:key:{key_id}:total", f"{prefix}:holds:key:{key_id}:total"
        held, count = Decimal(client.hget(budget, "held") or 0), client.zcard(holds)  # type: ignore[arg-type]
    if abs(held) > TOLERANCE_USD or count:
        return f"{count} holds, {held.quantize(TOLERANCE_USD).normalize():f} USD"
    stated = stack.key_record(key_id)["budget_held_usd"]
    return f"{stated} USD" if stated > TOLERANCE_USD else ""


PROMISES = (
    Promise(
        "budget",
        "A key's budget is never overspent",
        f"{CLIENTS} clients at once with a key of {BUDGET_USD} USD",
        budgets_are_not_overspent,
    ),
    Promise(
        "holds",
        "What is held for a call comes back, however it ends",
        "streams cut by the model, clients that leave, with a key's budget",
        holds_come_back,
    ),
)
