"""What is measured of a prompt, and of which prompts nothing can be told."""

from __future__ import annotations

import json
import time

import pytest

from evaluation.data import load
from gateway.routing.signals import HEAD, TAIL, kind_of, signals_of
from gateway.routing.topics import Topics, bundled, count_topics
from tests.unit.test_evaluation_data import SAMPLE

QUESTION = "Which court hears an appeal against a verdict of the jury in a criminal case under federal law?"
CHOICE = f"{QUESTION}\nA. The district court\nB. The court of appeals\nC. The defendant\nAnswer:"
WORD_PROBLEM = (
    "Tom buys 3 boxes of 12 eggs each for $2.50 a box. How many eggs does he have left if he eats 5?"
)
CODE = "Why does this fail?\ndef add(a, b):\n    return a + c\nprint(add(1, 2))"


def form(text: str) -> list[str]:
    return [name for name in signals_of([text]) if name.startswith("form/")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHOICE, "form/options"),
        ("Which is prime?\n(A) 8\n(B) 7\n(C) 9", "form/options"),
        (WORD_PROBLEM, "form/prose"),
        ("It costs $20 to enter and then $3 a ride, or $50 for the day.", "form/prose"),
        ("Find the least $n$ such that $n^2 > 50$.", "form/formulas"),
        (r"Simplify \frac{3}{4} \cdot \sqrt{8}.", "form/formulas"),
        (CODE, "form/code"),
        ("Explain:\n```\nls | wc -l\n```", "form/code"),
    ],
)
def test_the_form_of_a_prompt_is_seen(text: str, expected: str) -> None:
    assert form(text) == [expected]


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Is the plaintiff likely to recover damages from the defendant for a tort of negligence?", "law"),
        (
            "Which enzyme copies the DNA of a cell before mitosis, and where do the ribosomes come from?",
            "biology",
        ),
        (
            "How far does a ball fall in 3 seconds, given the acceleration and its initial velocity?",
            "physics",
        ),
    ],
)
def test_the_topic_of_a_prompt_is_seen(text: str, topic: str) -> None:
    topics = {name: value for name, value in signals_of([text]).items() if name.startswith("topic/")}
    assert max(topics, key=lambda name: topics[name]) == f"topic/{topic}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "yes",
        "Go on.",
        "ok, continue please",
        "Do it again!",
        "👍",
        "?!…",
        "asdf qwer zxcv lkjh",
        "Was ist die Hauptstadt von Frankreich, und warum ist sie für die Geschichte so wichtig?",
        "Quelle est la capitale de la France et pourquoi est-elle importante ?",
        "¿Cuál es la capital de Francia y por qué es tan importante en la historia?",
        "请解释量子力学的基本原理。",
        "Объясни, пожалуйста, квантовую механику.",
        "フランスの首都はどこですか",
        "اشرح ميكانيكا الكم",
    ],
)
def test_of_a_prompt_without_known_words_nothing_is_told(text: str) -> None:
    assert signals_of([text]) == {}


def test_no_turn_at_all_tells_nothing() -> None:
    assert signals_of([]) == {}


def test_a_turn_that_says_nothing_takes_after_the_turns_before_it() -> None:
    assert signals_of([CHOICE, "go on"]) == signals_of([CHOICE])
    assert signals_of([CHOICE, "yes", "", "go on"]) == signals_of([CHOICE])


def test_a_turn_that_stands_for_itself_forgets_the_turns_before_it() -> None:
    assert signals_of([CHOICE, WORD_PROBLEM]) == signals_of([WORD_PROBLEM])


def test_a_short_turn_counts_together_with_the_one_before_it() -> None:
    alone, before = signals_of(["And in Spain?"]), signals_of([CHOICE])
    both = signals_of([CHOICE, "And in Spain?"])
    assert min(alone["length/all"], before["length/all"]) < both["length/all"]
    assert both["length/all"] < max(alone["length/all"], before["length/all"])
    assert both["form/options"] > 0.5


def test_the_newest_of_two_short_turns_weighs_most() -> None:
    first, last = "Name two sharks", "Solve an algebraic equation"
    forward, back = signals_of([first, last]), signals_of([last, first])
    assert abs(forward["length/all"] - signals_of([last])["length/all"]) < abs(
        back["length/all"] - signals_of([last])["length/all"]
    )


def test_of_a_long_prompt_the_beginning_and_the_end_are_read() -> None:
    middle = "The ship sailed on. " * 1000
    plain = signals_of([f"{QUESTION} {middle} {WORD_PROBLEM}"])
    assert plain == signals_of([f"{QUESTION} {middle[:10_000]}\\frac{middle[10_005:]} {WORD_PROBLEM}"])
    assert plain != signals_of([f"{QUESTION} \\frac {middle} {WORD_PROBLEM}"])
    assert plain != signals_of([f"{QUESTION} {middle} \\frac {WORD_PROBLEM}"])


def test_the_length_counts_what_is_not_read() -> None:
    text = "The ship sailed on. " * 1000
    longer = "The ship sailed on. " * 2000
    assert len(text) > HEAD + TAIL
    assert signals_of([longer])["length/all"] == pytest.approx(
        signals_of([text])["length/all"] + 0.693, abs=0.01
    )


def test_nothing_of_a_prompt_is_in_its_signals() -> None:
    names: set[str] = set()
    for outcome in [*load("mmlu-clean", SAMPLE), *load("gsm8k-fixed", SAMPLE)]:
        signals = signals_of([outcome.prompt])
        json.dumps(signals)
        names |= signals.keys()
    assert len(names) < 150
    secret = signals_of(
        ["My password is hunter2 and my name is Zebedee Quux. What is the law of torts here?"]
    )
    assert not any(word in str(secret).lower() for word in ("hunter", "zebedee", "quux", "password", "torts"))


def test_a_long_prompt_is_measured_in_a_fraction_of_a_millisecond() -> None:
    prompts = [(outcome.prompt + "\n") * 20 for outcome in load("mmlu-clean", SAMPLE)[:50]]
    times = []
    for prompt in prompts:
        best = 1.0
        for _ in range(5):
            start = time.thread_time()
            signals_of([prompt])
            best = min(best, time.thread_time() - start)
        times.append(best)
    # The goal is half a millisecond of a core to itself; this machine may be busy.
    assert sorted(times)[int(0.95 * len(times))] < 0.002


@pytest.mark.parametrize(
    "text",
    [
        "model route cheap " * 100_000,
        "a" * 1_000_000,
        "$" * 100_000,
        "easy. " * 100_000,
        "route. it " * 100_000,
        "\n" * 99_999 + "A. x",
    ],
)
def test_no_text_is_slow_to_measure(text: str) -> None:
    start = time.thread_time()
    signals_of([text] * 10)
    assert time.thread_time() - start < 0.1


def test_kinds_are_what_people_call_signals() -> None:
    assert kind_of("topic/law") == "topic: law"
    assert kind_of("length/all in prose") == kind_of("length/question") == "length"


def test_topics_are_counted_from_words() -> None:
    word_of = {"law": "judge", "biology": "cell", "physics": "atom", "history": "empire", "music": "note"}
    topics = count_topics([({word, "the"}, topic) for topic, word in word_of.items()] * 100)
    assert topics.names == tuple(sorted(word_of))
    assert topics.words["the"] == ()
    told = topics.of({"judge", "the"})
    assert max(told, key=lambda topic: told[topic]) == "law"
    assert 0 < sum(told.values()) <= 1
    assert topics.of({"nothing"}) == {}


def test_topics_survive_their_file() -> None:
    topics = bundled()
    assert Topics.from_json(topics.to_json()) == topics


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"topics": ["a"], "words": {"b": [0]}}'])
def test_what_holds_no_topics_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="these are no topics"):
        Topics.from_json(text)
