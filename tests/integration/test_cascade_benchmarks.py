"""The recorded answers of two benchmarks through a real gateway: what a cascade saves, with the quality
beside it, where it pays and where it does not."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import StartGateway
from tests.support.answering import Providers, Told, answering
from tests.support.cascades import TOLERANCE_USD, ask, counted_cost, requests_of

RECORDS = Path(__file__).parents[1] / "data" / "cascade.jsonl.gz"
FORM_CHARACTERS = 319  # in which the benchmarks ask for the form of the answer
# USD for a million tokens, from the cheapest to the dearest, in September 2024.
GSM8K = {
    "gemini-1.5-flash": ("0.075", "0.30"),
    "deepseek-v2.5-0908": ("0.14", "0.28"),
    "gpt-4o-mini-2024-07-18": ("0.15", "0.60"),
    "gpt-4o-2024-08-06": ("2.50", "10"),
}
MMLU_PRO = {
    "gemini-1.5-flash-002": ("0.075", "0.30"),
    "llama-3.1-8b-instruct": ("0.18", "0.18"),
    "phi-3-mini-4k-instruct": ("0.13", "0.52"),
    "gemini-1.5-pro-002": ("1.25", "5"),
}


class Outcome(NamedTuple):
    """`quality` and `cost` are shares of those of the dearest model alone."""

    quality: float
    cost: float
    escalated: int


def records_of(benchmark: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in gzip.decompress(RECORDS.read_bytes()).splitlines()]
    return [record for record in records if record["benchmark"] == benchmark]


def told(record: dict[str, Any], model: str) -> Told:
    """What a model said, as far as that is recorded, and at its recorded length."""
    answer = record["answers"][model]
    tokens = (len(record["prompt"]) + FORM_CHARACTERS) // 4, max(1, answer["out_chars"] // 4)
    if answer["a"] is None:
        return Told(f"{model} writes without end. " * 20, usage=tokens)
    return Told(f"Let me think. The answer is {answer['a']}.", usage=tokens)


def play(providers: Providers, records: list[dict[str, Any]]) -> None:
    """Have all models answer as they did, and forget what they were asked so far."""
    by_prompt = {record["prompt"]: record for record in records}
    for name, model in providers.models.items():
        model.answers = lambda asked, name=name: told(by_prompt[asked["messages"][0]["content"]], name)  # type: ignore[misc]
    providers.forget()


@pytest.mark.parametrize(
    ("benchmark", "prices"), [("gsm8k-ze", GSM8K), ("mmlu-pro", MMLU_PRO)], ids=["gsm8k", "mmlu-pro"]
)
def test_the_bill_shows_what_agreement_saves_and_the_answers_what_that_costs_in_quality(
    start_gateway: StartGateway, tmp_path: Path, benchmark: str, prices: dict[str, tuple[str, str]]
) -> None:
    records = records_of(benchmark)
    assert len(records) == 60
    with answering(**prices) as providers:
        play(providers, records)
        gateway = start_gateway(
            MODELS_FILE=providers.models_file(tmp_path),
            ROUTING_POLICY="cascade",
            CASCADE_CHECKS="structure,agreement",
        )
        dearest = list(prices)[-1]

        def answer_to(record: dict[str, Any]) -> bool:
            messages = [{"role": "user", "content": record["prompt"]}]
            answer = ask(gateway, messages=messages)
            model = answer.headers["X-Gateway-Model"]
            text = answer.json()["choices"][0]["message"]["content"]
            assert text == told(record, model).content
            return bool(record["answers"][model]["ok"])

        with ThreadPoolExecutor(8) as clients:
            right = sum(clients.map(answer_to, records))
        spent = counted_cost(gateway)
        assert abs(spent - providers.cost_usd) <= TOLERANCE_USD
        answered = requests_of(gateway)
        assert sum(answered.values()) == len(records)
        saved = Decimal(gateway.counters()["baseline_cost_usd"]) - spent

        alone = sum(record["answers"][dearest]["ok"] for record in records)
        price, output = map(Decimal, prices[dearest])
        usages = [told(record, dearest).usage for record in records]
        tokens = [sum(each) for each in zip(*usages, strict=True)]
        cost_alone = (price * tokens[0] + output * tokens[1]) / 10**6
        outcome = Outcome(right / alone, float(spent / cost_alone), answered.get(dearest, 0))
    print(benchmark, outcome, f"saved by its own counters: {saved} USD")  # for whoever looks
    if benchmark == "gsm8k-ze":
        assert outcome.quality >= 0.95
        assert outcome.cost <= 0.2
        assert saved > 0
    else:
        assert outcome.cost >= 0.4  # it does not pay here, and the bill says so
