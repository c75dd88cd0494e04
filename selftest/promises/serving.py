"""Promises of a day without faults: who answers, how, and that it is counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from selftest.books import await_agreement, books_of
from selftest.stack import CHAT, SHORT, Stack
from selftest.traffic import CLIENTS, mixed
from selftest.verdicts import NotTried, Promise, Trial

WORD = "lorem "
PROBES = ("/healthz", "/readyz", "/metrics", "/v1/models", "/openapi.json")
MESSAGE = {"role": "user", "content": "hello"}
# Each wrong in a way of its own, with the field that the answer should name.
BAD_BODIES: tuple[tuple[Any, str | None], ...] = (
    (b"", None),
    (b"{", None),
    (b"\xff\xfe", None),
    ([MESSAGE], None),
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [MESSAGE], "stream": "yes"}, "stream"),
    ({"messages": [MESSAGE], "model": 5}, "model"),
)
MIXED_REQUESTS = 64
# A buffered answer comes all at once; one that is passed on is spread over the time that the model takes.
LONG_STREAM = f"{SHORT} [[write 2000 tokens]]"
LEAST_SPREAD = 0.5
STREAMS = 3


def probes_answer(stack: Stack, trial: Trial) -> str:
    for path in PROBES:
        headers = {"Authorization": f"Bearer {stack.key}"} if stack.key else {}
        answer = stack.get(path, **headers)
        trial.times += 1
        trial.expect(answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:100].strip()}")
    return f"200 of {', '.join(PROBES[:3])} and {len(PROBES) - 3} more"


def length_chooses(stack: Stack, trial: Trial) -> str:
    if stack.settings.routing_policy != "prompt_length":
        raise NotTried(f"ROUTING_POLICY is {stack.settings.routing_policy}")
    if stack.settings.share_is_held:
        raise NotTried("the expensive share is held, so that the threshold moves")
    limit = stack.settings.threshold_chars
    longest_short = (WORD * limit)[:limit]
    cases = [(longest_short, "CheapModel")] if limit else []
    cases += [(longest_short + "x", "ExpensiveModel"), (longest_short + WORD * 20, "ExpensiveModel")]
    requests = [(content, model, stream) for content, model in cases * 4 for stream in (False, True)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda asked: stack.chat(asked[0], stream=asked[2]), requests))
    trial.times = len(answers)
    for (content, model, _), answer in zip(requests, answers, strict=True):
        told = f"{len(content)} characters: {answer.code} by {answer.model or 'nobody'}"
        trial.expect(answer.looks_whole and answer.model == model, told)
        trial.expect(answer.text.startswith(f"{model}:"), f"{told}, who says {answer.text[:30]!r}")
    return f"up to {limit} characters CheapModel, from {limit + 1} on ExpensiveModel"


def bad_input_is_refused(stack: Stack, trial: Trial) -> str:
    before = books_of(stack)
    for body, param in BAD_BODIES:
        answer = stack.post(CHAT, body)
        trial.times += 1
        told = f"{str(body)[:50]}: {answer.code}"
        trial.expect(answer.status == 400, told)
        trial.expect(answer.error is not None, f"{told}, not in OpenAI's shape: {answer.body[:80]!r}")
        error = answer.error or {}
        trial.expect(error["type"] == "invalid_request_error", f"{told}, type {error['type']}")
        trial.expect(param is None or error["param"] == param, f"{told}, param {error['param']}")
    unknown = stack.chat(model="no-such-model")
    trial.times += 1
    trial.expect((unknown.status, unknown.error is not None) == (404, True), f"unknown model: {unknown.code}")
    await_agreement(stack, before)
    return "400 and 404 in OpenAI's shape, nothing billed"


def totals_are_the_models_bills(stack: Stack, trial: Trial) -> str:
    before = books_of(stack)
    answers = mixed(stack, MIXED_REQUESTS)
    trial.times = len(answers)
    failed = [answer.code for answer in answers if not answer.looks_whole]
    trial.expect(not failed, f"{len(failed)} of {len(answers)} requests failed: {failed[:1]}")
    return await_agreement(stack, before)


def streams_are_passed_on(stack: Stack, trial: Trial) -> str:
    spreads = []
    whole = stack.chat(LONG_STREAM, model="ExpensiveModel")
    for _ in range(STREAMS):
        answer = stack.chat(LONG_STREAM, model="ExpensiveModel", stream=True)
        trial.times += 1
        trial.expect(answer.looks_whole, f"a stream failed: {answer.code}")
        trial.expect(answer.text == whole.text, "a stream's text is not that of the plain answer")
        took, first = answer.seconds, answer.pieces[0][0]
        spreads.append((1 - first / took, first, took))
    # The best of some, since a busy machine can hold up the reader; what is buffered is so each time.
    spread, first, took = max(spreads)
    trial.expect(
        spread >= LEAST_SPREAD, f"the first piece came after {first:.2f} s, the last after {took:.2f} s"
    )
    return f"first piece after {first:.2f} s, last after {took:.2f} s; text as in the plain answer"


PROMISES = (
    Promise("probes", "The gateway answers its probes", f"GET of {len(PROBES)} paths", probes_answer),
    Promise(
        "routing",
        "Short prompts go to CheapModel, long ones to ExpensiveModel",
        "prompts at and above the threshold, plain and streamed",
        length_chooses,
    ),
    Promise(
        "bad-input",
        "Bad input gets a clear error and costs nothing",
        "broken JSON, missing and ill-typed fields, an unknown model",
        bad_input_is_refused,
    ),
    Promise(
        "totals",
        "The counters are what the models bill, to the last token",
        "8 clients, both models, plain and streamed",
        totals_are_the_models_bills,
    ),
    Promise(
        "streaming",
        "Streams are passed on as they come",
        "streams of 2,000 tokens, read piece by piece",
        streams_are_passed_on,
    ),
)
