"""The gateway's bill against the providers' own: 2,000 real questions, 32 clients at once, half streamed."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.prompts import CLIENTS, ask, expected_model, prompts
from tests.support.stack import MODELS, Stack


@pytest.mark.timeout(300)
def test_metrics_redis_and_the_models_ledgers_agree_exactly(stack: Stack) -> None:
    questions = prompts()
    assert len(questions) == 2000
    expected = Counter(expected_model(question) for question in questions)
    counted_before = {model: stack.counted(model) for model in MODELS}
    billed_before = {model: stack.billed(model) for model in MODELS}
    before = stack.metrics()

    with ThreadPoolExecutor(CLIENTS) as clients:
        answered = Counter(clients.map(lambda item: ask(stack, *item), enumerate(questions)))

    assert answered == expected
    counted = {model: stack.counted(model) - counted_before[model] for model in MODELS}
    billed = {model: stack.billed(model) - billed_before[model] for model in MODELS}
    for model in MODELS:
        assert counted[model].calls == expected[model]
        assert counted[model].rounded() == billed[model].rounded()
    after = stack.metrics()
    assert after["totalRequests"] - before["totalRequests"] == 2000
    for model in MODELS:
        assert after["modelUsageCount"][model] - before["modelUsageCount"][model] == expected[model]
    cost = sum(bill.cost_usd for bill in billed.values())
    assert after["totalCostUsd"] - before["totalCostUsd"] == pytest.approx(float(cost), abs=1e-9)
