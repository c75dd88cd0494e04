"""The public routing data: what a cheap and an expensive model made of each prompt.

Two faults of the labels are repaired while reading: `gsm8k-fixed` takes the scores that were marked again,
and `mmlu-clean` leaves out high school mathematics, where an artefact fails nearly every answer
of the expensive model.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DEFAULT_FOLDER = "../shared/routing-data"
FOLDS = 5
FILES = {
    "mmlu-clean": "mmlu",
    "gsm8k-fixed": "gsm8k",
    "gsm8k-ze": "gsm8k-ze",
    "math-l5": "math-l5",
    "mmlu-pro": "mmlu-pro",
    "alpaca-eval": "alpaca-eval",
    # As they were published, faults and all: what others' figures were measured on.
    "mmlu": "mmlu",
    "gsm8k": "gsm8k",
}
# Whose licence permits weights that were trained on them; alpaca-eval's does not.
TRAINABLE = ("mmlu-clean", "gsm8k-fixed", "gsm8k-ze", "math-l5", "mmlu-pro")
FAULTY_SUBJECT = "high_school_mathematics"
# Where the options of a multiple-choice question begin.
OPTIONS = re.compile(r"\n\(?A[.)] ")
NO_WORD = re.compile(r"[\W_]+")


class DataError(Exception):
    """The data is not there, or not what it is said to be."""


@dataclass(frozen=True)
class Pair:
    """The two models between which was chosen, by their providers' names."""

    cheap: str
    expensive: str


@dataclass(frozen=True)
class Outcome:
    """What both models of a pair made of one prompt: quality 0 to 1, and the answers' lengths in characters,
    None where the source has no answers."""

    id: str
    benchmark: str
    prompt: str
    stem: str
    pair: Pair
    cheap_score: float
    expensive_score: float
    cheap_out_chars: int | None
    expensive_out_chars: int | None

    @property
    def gain(self) -> float:
        """What the expensive model adds, -1 to 1."""
        return self.expensive_score - self.cheap_score

    @property
    def fold(self) -> int:
        """0 to 4; the same for all prompts with the same stem, in whatever benchmark."""
        return fold_of(self.stem)


def data_folder() -> Path:
    """ROUTING_DATA, or the folder that lies beside the repository; relative paths begin at its root."""
    return ROOT / os.environ.get("ROUTING_DATA", DEFAULT_FOLDER)


def load(benchmark: str, folder: Path | None = None) -> list[Outcome]:
    """All outcomes of a benchmark of `FILES`, in the file's order.

    :raises DataError: where the file is missing or spoilt
    """
    return [
        _outcome_of(benchmark, line)
        for line in read_lines(FILES[benchmark], folder)
        if not (benchmark == "mmlu-clean" and line.get("meta") == FAULTY_SUBJECT)
    ]


def stem_of(prompt: str) -> str:
    """The question without its options, its case, its punctuation and its spacing: what makes two prompts the
    same question."""
    question = OPTIONS.split(prompt, maxsplit=1)[0]
    return NO_WORD.sub(" ", question.lower()).strip()


def fold_of(stem: str) -> int:
    """Which of the five folds a question belongs to, always the same one."""
    # The salt keeps it independent of the hold-out, which is cut by the stem's plain hash.
    return int.from_bytes(hashlib.sha256(f"fold {stem}".encode()).digest()[:8]) % FOLDS


def split(outcomes: Sequence[Outcome], fold: int) -> tuple[list[Outcome], list[Outcome]]:
    """Those to train on, and those to judge on, which are the ones of the fold."""
    inside = [outcome for outcome in outcomes if outcome.fold == fold]
    return [outcome for outcome in outcomes if outcome.fold != fold], inside


def by_pair(outcomes: Sequence[Outcome]) -> dict[Pair, list[Outcome]]:
    """The outcomes of each pair of models, in their order."""
    found: dict[Pair, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.pair, []).append(outcome)
    return found


def read_lines(file: str, folder: Path | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a file of the data, by its name without `.jsonl.gz`.

    :raises DataError: where it is missing or spoilt
    """
    path = (folder or data_folder()) / f"{file}.jsonl.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except FileNotFoundError as exc:
        raise DataError(f"{path} is missing; ROUTING_DATA names the folder of the routing data") from exc
    except (OSError, EOFError, ValueError) as exc:
        raise DataError(f"{path} cannot be read: {exc}") from exc


def _outcome_of(benchmark: str, line: dict[str, Any]) -> Outcome:
    suffix = "_fixed" if benchmark == "gsm8k-fixed" else ""
    try:
        return Outcome(
            id=line["id"],
            benchmark=benchmark,
            prompt=line["prompt"],
            stem=stem_of(line["prompt"]),
            pair=Pair(line["cheap_model"], line["expensive_model"]),
            cheap_score=float(line["cheap_score" + suffix]),
            expensive_score=float(line["expensive_score" + suffix]),
            cheap_out_chars=line["cheap_out_chars"],
            expensive_out_chars=line["expensive_out_chars"],
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise DataError(f"an outcome of {benchmark} has no usable {exc}") from exc
