"""The gateway's bill against the providers' own: 2,000 real questions, 32 clients at once, half streamed."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.stack import MODELS, Stack

PROMPTS = Path(__file__).parents[1] / "data" / "prompts.jsonl.gz"
CLIENTS = 32


def prompts() -> list[str]:
    with gzip.open(PROMPTS, "rt") as lines:
        return [json.loads(line)["prompt"] for line in lines]


def ask(stack: Stack, number: int, prompt: str) -> str:
    """Send one prompt, every second one streamed, and give the model that answered whole."""
    streamed = number % 2 == 0
    answer = stack.chat(prompt, stream=streamed)
    answer.raise_for_status()
    if streamed:
        assert answer.content.endswith(b"data: [DONE]\n\n")
    else:
        assert answer.json()["choices"]
    return answer.headers["X-Gateway-Model"]


@pytest.mark.timeout(300)
def test_metrics_redis_and_the_models_ledgers_agree_exactly(stack: Stack) -> None:
    questions = prompts()
    assert len(questions) == 2000
    expected = {
        "CheapModel": sum(len(question) <= 150 for question in questions),
        "ExpensiveModel": sum(len(question) > 150 for question in questions),
    }
    counted = {model: stack.counted(model) for model in MODELS}
    billed = {model: stack.billed(model) for model in MODELS}
    metrics = stack.metrics()

    with ThreadPoolExecutor(CLIENTS) as clients:
        answered = list(clients.map(lambda item: ask(stack, *item), enumerate(questions)))

    counted = {model: stack.counted(model) - counted[model] for model in MODELS}
    billed = {model: stack.billed(model) - billed[model] for model in MODELS}
    for model in MODELS:
        assert answered.count(model) == expected[model]
        assert counted[model].calls == expected[model]
        assert counted[model].rounded() == billed[model].rounded()
    after = stack.metrics()
    assert after["totalRequests"] - metrics["totalRequests"] == 2000
    assert {
        model: after["modelUsageCount"][model] - metrics["modelUsageCount"][model] for model in MODELS
    } == expected
    cost = sum(bill.cost_usd for bill in billed.values())
    assert after["totalCostUsd"] - metrics["totalCostUsd"] == pytest.approx(float(cost), abs=1e-9)
