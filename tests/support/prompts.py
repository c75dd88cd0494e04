"""Real questions, and clients that ask them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from tests.support.stack import Stack

PROMPTS = Path(__file__).parents[1] / "data" / "prompts.jsonl.gz"
CLIENTS = 32


def prompts() -> list[str]:
    """2,000 questions of public benchmarks."""
    return [line["prompt"] for line in _lines()]


def prompts_by_benchmark() -> list[str]:
    """The same, those of a benchmark together."""
    return [line["prompt"] for line in sorted(_lines(), key=lambda line: line["benchmark"])]


def _lines() -> list[dict[str, str]]:
    with gzip.open(PROMPTS, "rt") as lines:
        return [json.loads(line) for line in lines]


def expected_model(prompt: str) -> str:
    return "CheapModel" if len(prompt) <= 150 else "ExpensiveModel"


def ask(stack: Stack, number: int, prompt: str) -> str:
    """Send one prompt, every second one streamed, and give the model that answered.

    :raises requests.RequestException: when no answer came whole
    """
    streamed = number % 2 == 0
    answer = stack.chat(prompt, stream=streamed)
    answer.raise_for_status()
    if streamed:
        assert answer.content.endswith(b"data: [DONE]\n\n")
    else:
        assert answer.json()["choices"]
    return answer.headers["X-Gateway-Model"]
