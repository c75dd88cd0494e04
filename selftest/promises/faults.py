"""Promises for when a model fails, stalls or breaks off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from selftest.answers import Answer
from selftest.books import TOLERANCE_USD, await_agreement, books_of
from selftest.stack import LONG, SHORT, Stack
from selftest.verdicts import Promise, Trial

# Beside what is promised: what a busy machine may add.
SLACK_SECONDS = 4.0
DOWN_SECONDS = 10
STALL_SECONDS = 2
RETRY_AFTER_SECONDS = 1
LEAVING = 4
LEAVE_SECONDS = 0.7
# So long would the model go on if nobody told it that its client has left.
LEFT_SECONDS = 12
NOTICED_SECONDS = 6.0
CIRCUIT_CLIENTS = 4
CIRCUIT_REQUESTS = 12
UNAVAILABLE = (502, 503, 504)
FAULTS_OF_ONE = ("status=503", "connect_reset")


def other_model_answers(stack: Stack, trial: Trial) -> str:
    stack.require_on("UPSTREAM_FALLBACKS")
    before = books_of(stack)
    answers: list[Answer] = []
    for model, content, other in (("cheap", SHORT, "ExpensiveModel"), ("expensive", LONG, "CheapModel")):
        for fault in FAULTS_OF_ONE:
            with stack.failing(**{model: fault}), ThreadPoolExecutor(2) as pool:
                some = list(pool.map(lambda n, c=content: stack.chat(c, stream=n % 2 == 1), range(4)))
            trial.times += len(some)
            for answer in some:
                told = f"{model} model with {fault}: {answer.code} by {answer.model or 'nobody'}"
                trial.expect(answer.looks_whole and answer.model == other, told)
            answers += some
    listed = [answer for answer in answers if len(answer.attempts) > 1]
    trial.expect(bool(listed), "X-Gateway-Attempts lists no attempt that failed")
    await_agreement(stack, before)
    return f"{len(answers)} of {len(answers)} answered by the other; X-Gateway-Attempts tells of both"


def attempts_tell_the_bill(stack: Stack, trial: Trial) -> str:
    stack.require_on("UPSTREAM_FALLBACKS")
    before = {mock.name: mock.bill() for mock in stack.mocks}
    stated = Decimal(0)
    with stack.failing(cheap="status=503"):
        for _ in range(4):
            answer = stack.chat(SHORT)
            trial.times += 1
            trial.expect(answer.looks_whole, f"no answer: {answer.code}")
            header = answer.headers.get("X-Gateway-Attempts")
            trial.expect(bool(answer.attempts), f"X-Gateway-Attempts is {header!r}")
            stated += sum((attempt.cost_usd for attempt in answer.attempts), Decimal(0))
        billed = sum((mock.bill().cost_usd - before[mock.name].cost_usd for mock in stack.mocks), Decimal(0))
    told = f"attempts say {stated.normalize():f} USD, the models bill {billed.normalize():f}"
    trial.expect(abs(stated - billed) <= TOLERANCE_USD, told)
    return told


def broken_models_are_left_alone(stack: Stack, trial: Trial) -> str:
    stack.require_on("CIRCUIT_BREAKER", "UPSTREAM_FALLBACKS")
    asked_in_vain = spared = 0
    begun = time.monotonic()
    with stack.failing(cheap="status=503"), ThreadPoolExecutor(CIRCUIT_CLIENTS) as pool:
        while spared < CIRCUIT_REQUESTS:
            for answer in pool.map(lambda _: stack.chat(SHORT), range(CIRCUIT_REQUESTS)):
                trial.times += 1
                trial.expect(answer.looks_whole, f"a request failed: {answer.code}")
                in_vain = any(attempt.model == "CheapModel" for attempt in answer.attempts)
                asked_in_vain += in_vain
                spared += not in_vain
            late = time.monotonic() - begun > stack.settings.patience and spared < CIRCUIT_REQUESTS
            trial.expect(not late, f"still asked after {asked_in_vain} requests that it failed")
        ended = time.monotonic()
    back = time.monotonic() - ended
    return f"left alone after failing {asked_in_vain} requests; well again, it was asked after {back:.1f} s"


def both_down_is_told(stack: Stack, trial: Trial) -> str:
    before = books_of(stack)
    answers = []
    for fault in ("status=503", "connect_reset"):
        with stack.failing(cheap=fault, expensive=fault):
            for stream in (False, True):
                answer = stack.chat(stream=stream, headers={"X-Request-Timeout": str(DOWN_SECONDS)})
                trial.times += 1
                _require_error(trial, answer, fault, UNAVAILABLE)
                bound = DOWN_SECONDS + SLACK_SECONDS
                trial.expect(answer.seconds <= bound, f"{fault}: {answer.code} after {answer.seconds:.1f} s")
                answers.append(answer)
    await_agreement(stack, before)
    return f"{_codes(answers)} after at most {_slowest(answers):.1f} s"


def deadlines_are_kept(stack: Stack, trial: Trial) -> str:
    before = books_of(stack)
    answers = []
    bound = STALL_SECONDS + SLACK_SECONDS
    headers = {"X-Request-Timeout": str(STALL_SECONDS)}
    for fault, streams in (("stall_before_first_byte", (False, True)), ("stall_midstream", (True,))):
        with stack.failing(cheap=fault, expensive=fault):
            for stream in streams:
                answer = stack.chat(stream=stream, headers=headers, leave_after=bound)
                trial.times += 1
                told = f"{fault}: no end after {answer.seconds:.1f} s, where {STALL_SECONDS} were allowed"
                trial.expect(answer.seconds < bound, told)
                if answer.status == 200:
                    _require_broken_stream(trial, answer, fault)
                else:
                    _require_error(trial, answer, fault, (502, 503, 504))
                answers.append(answer)
    await_agreement(stack, before, all_whole=False)
    return f"{_codes(answers)} after at most {_slowest(answers):.1f} s, where {STALL_SECONDS} were allowed"


def rate_limits_are_waited_for(stack: Stack, trial: Trial) -> str:
    stack.require_on("UPSTREAM_RETRIES")
    waited = []
    for stream in (False, True):
        fault = f"status=429,retry_after={RETRY_AFTER_SECONDS},count=1"
        with stack.failing(cheap=fault):
            answer = stack.chat(SHORT, stream=stream)
        trial.times += 1
        told = f"{answer.code} by {answer.model or 'nobody'}"
        trial.expect(answer.looks_whole, told)
        statuses = [attempt.status for attempt in answer.attempts]
        trial.expect(statuses == ["429", "200"], f"{told}, attempts {statuses}")
        if answer.attempts[1].model == "CheapModel":
            early = f"asked again after {answer.seconds:.2f} s, Retry-After: {RETRY_AFTER_SECONDS}"
            trial.expect(answer.seconds >= RETRY_AFTER_SECONDS, early)
        waited.append(answer.seconds)
    return f"answered at the second attempt, after {max(waited):.1f} s"


def broken_answers_do_not_look_whole(stack: Stack, trial: Trial) -> str:
    before = books_of(stack)
    error_events = errors = 0
    for fault in ("cut_midstream", "malformed_json"):
        with stack.failing(cheap=fault, expensive=fault):
            failed = stack.cheap.failed() + stack.expensive.failed()
            for stream in (True, False):
                for content in (SHORT, LONG):
                    answer = stack.chat(content, stream=stream)
                    trial.times += 1
                    if stream and answer.status == 200:
                        _require_broken_stream(trial, answer, fault)
                        error_events += 1
                    else:
                        _require_error(trial, answer, fault, UNAVAILABLE)
                        errors += 1
            failed = stack.cheap.failed() + stack.expensive.failed() - failed
            trial.expect(failed > 0, "the models did not fail as they were told")
    await_agreement(stack, before, all_whole=False)
    return f"{error_events} ended with an error event, {errors} were a 5xx; counted as the models bill"


def leaving_clients_end_their_calls(stack: Stack, trial: Trial) -> str:
    whole = stack.chat(LONG, model="ExpensiveModel")
    trial.expect(whole.looks_whole, f"no answer: {whole.code}")
    prompt = LEAVING * int(whole.values["usage"]["prompt_tokens"])
    before = books_of(stack)

    def leave(number: int) -> None:
        stack.chat(LONG, model="ExpensiveModel", stream=number % 2 == 1, leave_after=LEAVE_SECONDS)

    with stack.failing(expensive=f"slow={LEFT_SECONDS}"):
        with ThreadPoolExecutor(LEAVING) as pool:
            list(pool.map(leave, range(LEAVING)))
        trial.times, left = LEAVING, time.monotonic()
        # A call that ends before its answer is billed for its prompt, at that moment.
        while (billed := stack.expensive.bill() - before.billed["ExpensiveModel"]).input_tokens < prompt:
            waited = time.monotonic() - left
            told = f"the model still works {waited:.0f} s after the clients left"
            trial.expect(waited < NOTICED_SECONDS, told)
            time.sleep(0.1)
        noticed = time.monotonic() - left
    trial.expect(billed.output_tokens == 0, f"the model wrote {billed.output_tokens} tokens for nobody")
    await_agreement(stack, before)
    return f"the model's calls ended {noticed:.1f} s later; only prompts billed, and counted"


def _require_error(trial: Trial, answer: Answer, fault: str, statuses: Sequence[int]) -> None:
    told = f"{fault}: {answer.code}"
    trial.expect(answer.status in statuses, told)
    trial.expect(not answer.broken, f"{told}, and the connection broke")
    trial.expect(answer.error is not None, f"{told}, not in OpenAI's shape: {answer.body[:80]!r}")


def _require_broken_stream(trial: Trial, answer: Answer, fault: str) -> None:
    trial.expect(not answer.looks_whole, f"{fault}: a stream that broke looks whole to its client")
    trial.expect(answer.error_event is not None, f"{fault}: a stream that broke has no error event")
    ended = "[DONE]" not in answer.events
    trial.expect(ended, f"{fault}: a stream that broke ends with [DONE]")


def _codes(answers: list[Answer]) -> str:
    return ", ".join(sorted({answer.code for answer in answers}))


def _slowest(answers: list[Answer]) -> float:
    return max(answer.seconds for answer in answers)


PROMISES = (
    Promise(
        "fallback",
        "When a model is down, the other one answers",
        "one model with 503 or resets, then the other",
        other_model_answers,
    ),
    Promise(
        "attempts",
        "Every attempt is listed with what it cost",
        "CheapModel down; X-Gateway-Attempts against the models' bills",
        attempts_tell_the_bill,
    ),
    Promise(
        "circuit",
        "A model that fails again and again is left alone for a while",
        f"CheapModel with 503 under {CIRCUIT_CLIENTS} clients, then well again",
        broken_models_are_left_alone,
    ),
    Promise(
        "both-down",
        "When both are down, a clear error comes soon",
        f"both with 503 or resets, X-Request-Timeout: {DOWN_SECONDS}",
        both_down_is_told,
    ),
    Promise(
        "deadline",
        "A stalled model holds nobody past the deadline",
        f"both stall before or amid the answer, X-Request-Timeout: {STALL_SECONDS}",
        deadlines_are_kept,
    ),
    Promise(
        "retry-after",
        "A 429 with Retry-After is asked again, not passed on",
        f"the first request gets 429, Retry-After: {RETRY_AFTER_SECONDS}",
        rate_limits_are_waited_for,
    ),
    Promise(
        "broken-answers",
        "A broken answer never looks whole",
        "both models cut or garble answers in the middle",
        broken_answers_do_not_look_whole,
    ),
    Promise(
        "leaving",
        "A client that leaves ends its call, and pays for no more",
        f"clients leave after {LEAVE_SECONDS:g} s, the model would take {LEFT_SECONDS} s",
        leaving_clients_end_their_calls,
    ),
)
