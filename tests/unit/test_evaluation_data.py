"""Reading the routing data: a sample of it lies in `tests/data/routing`."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from evaluation.data import DataError, by_pair, data_folder, fold_of, load, split, stem_of

SAMPLE = Path(__file__).parent.parent / "data" / "routing"


def test_a_question_is_the_same_with_other_options_spacing_and_case() -> None:
    question = "Which of these is  a PRIME?\nA. 4\nB. 5\nAnswer:"
    assert (
        stem_of(question) == stem_of("which of these is a prime\n(A) 9\n(B) 7") == "which of these is a prime"
    )
    assert stem_of("Which of these is even?\nA. 4") != stem_of(question)


def test_the_same_question_is_in_the_same_fold_in_both_benchmarks() -> None:
    fixed, other = load("gsm8k-fixed", SAMPLE), load("gsm8k-ze", SAMPLE)
    assert {outcome.stem for outcome in fixed} == {outcome.stem for outcome in other}
    for fold in range(5):
        train, judged = split([*fixed, *other], fold)
        assert judged
        assert not {outcome.stem for outcome in train} & {outcome.stem for outcome in judged}
        assert len(train) + len(judged) == len(fixed) + len(other)


def test_the_folds_are_about_equal() -> None:
    counts = Counter(fold_of(f"question {number}") for number in range(5000))
    assert set(counts) == {0, 1, 2, 3, 4}
    assert all(900 < count < 1100 for count in counts.values())


def test_the_repaired_scores_are_taken() -> None:
    with gzip.open(SAMPLE / "gsm8k.jsonl.gz", "rt") as lines:
        raw = [json.loads(line) for line in lines]
    fixed = load("gsm8k-fixed", SAMPLE)
    assert [outcome.expensive_score for outcome in fixed] == [line["expensive_score_fixed"] for line in raw]
    assert sum(outcome.expensive_score for outcome in fixed) > sum(line["expensive_score"] for line in raw)


def test_the_faulty_subject_is_left_out() -> None:
    assert len(load("mmlu-clean", SAMPLE)) == 110


def test_each_pair_of_models_has_its_own_outcomes() -> None:
    pairs = by_pair(load("gsm8k-ze", SAMPLE))
    assert len(pairs) == 3
    assert all(len(outcomes) == 120 for outcomes in pairs.values())


def test_missing_data_is_named_with_the_variable_that_says_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mmlu-pro\.jsonl\.gz is missing; ROUTING_DATA"):
        load("mmlu-pro", tmp_path)


@pytest.mark.parametrize(
    "spoilt",
    [b"no gzip", gzip.compress(b"no JSON\n"), gzip.compress(b'{"id": 1}' * 99)[:20]],
    ids=["no gzip", "no JSON", "cut"],  # else they hold the time
)
def test_spoilt_data_is_said_to_be_so(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / "gsm8k.jsonl.gz").write_bytes(spoilt)
    with pytest.raises(DataError, match="cannot be read"):
        load("gsm8k-fixed", tmp_path)


def test_an_outcome_without_a_score_is_said_to_be_so(tmp_path: Path) -> None:
    line = {"id": "1", "prompt": "?", "cheap_model": "a", "expensive_model": "b", "cheap_score_fixed": None}
    (tmp_path / "gsm8k.jsonl.gz").write_bytes(gzip.compress(json.dumps(line).encode()))
    with pytest.raises(DataError, match="gsm8k-fixed"):
        load("gsm8k-fixed", tmp_path)


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROUTING_DATA", str(tmp_path))
    assert data_folder() == tmp_path
