"""Requests of mixed kind, planned by a seed: in every API, with faults of the mocks' list and with clients
that leave, each in the group by which its bill can be compared with the provider's."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.support.mix_bodies import (
    FEATURES,
    Asked,
    ask,
    chat_body,
    completions_body,
    embeddings_body,
    messages_body,
    responses_body,
)

SHORT_CHARACTERS = 150  # up to which the policy would choose the cheap model
FAULTED = 0.2
LEAVING = 0.2
STREAMED = 0.5
STALL_SECONDS = 10  # longer than the gateway waits
# After these the provider has billed nothing, or has answered whole and said its usage.
FAULTS_WITH_USAGE = (
    "status=400",
    "status=429,retry_after=1",
    "status=500",
    "status=503,count=1",
    "status=502,probability=1",
    "connect_reset",
    f"stall_before_first_byte={STALL_SECONDS}",
    "slow=0.3",
)
# After these nobody has told the gateway what the provider bills.
FAULTS_WITHOUT_USAGE = (
    "cut_midstream",
    f"stall_midstream={STALL_SECONDS}",
    "malformed_json",
    "no_usage",
)


class Group(StrEnum):
    """What is known of a call's bill."""

    STATED = "stated"  # the provider states its usage, or bills nothing
    UNSTATED = "unstated"  # it does not, or not to the end
    UNDISCOUNTED = "undiscounted"  # nor does it say which part of the prompt its cache made cheaper


@dataclass(frozen=True)
class Leave:
    """When a client closes its connection: after so many events of a stream, or else so many seconds."""

    events: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Planned:
    """One request. `body` has the model's name in the catalog of `catalog_name`."""

    number: int
    group: Group
    api: str
    feature: str
    stream: bool
    body: dict[str, Any]
    fault: str | None
    leave: Leave | None


@dataclass(frozen=True)
class _Api:
    weight: int
    features: frozenset[str]
    body: Callable[[Asked], dict[str, Any]]
    streams: bool = True
    translatable: bool = False
    bare: bool = False  # a prompt without messages, which the mocks do not cache


_ALL = frozenset(FEATURES)
APIS = {
    "chat/completions": _Api(40, _ALL, chat_body),
    "responses": _Api(22, _ALL - {"choices"}, responses_body, translatable=True),
    "messages": _Api(22, _ALL - {"choices"}, messages_body, translatable=True),
    "completions": _Api(
        8, frozenset({"text", "conversation", "limit", "choices"}), completions_body, bare=True
    ),
    "embeddings": _Api(8, frozenset({"text", "conversation"}), embeddings_body, streams=False, bare=True),
}


def plan(seed: int, count: int, prompts: list[str]) -> list[Planned]:
    """`count` requests, of which the share `FAULTED` has a fault and the share `LEAVING`, none of these, a
    client that leaves."""
    rng = random.Random(seed)
    numbers = rng.sample(range(count), count)
    faulted, leaving = int(count * FAULTED), int(count * LEAVING)
    kinds = FAULTS_WITH_USAGE + FAULTS_WITHOUT_USAGE
    faults = {number: kinds[index % len(kinds)] for index, number in enumerate(numbers[:faulted])}
    leavers = set(numbers[faulted : faulted + leaving])
    return [_planned(rng, number, prompts, faults.get(number), number in leavers) for number in range(count)]


def catalog_name(model: str, group: Group, *, native: bool) -> str:
    """What a model is called whose calls are of this group; `native`: its provider is taken to serve
    Responses and Messages itself."""
    parts = [model, *([group] if group is not Group.STATED else ()), *(["native"] if native else ())]
    return "-".join(parts)


def _planned(rng: random.Random, number: int, prompts: list[str], fault: str | None, leaves: bool) -> Planned:
    name = rng.choices(list(APIS), [api.weight for api in APIS.values()])[0]
    api = APIS[name]
    feature = rng.choices(*zip(*((f, w) for f, w in FEATURES.items() if f in api.features), strict=True))[0]
    asked = ask(rng, feature, prompts)
    stream = api.streams and rng.random() < STREAMED
    native = api.translatable and rng.random() < 0.5
    leave = _leave(rng, stream) if leaves else None
    body = api.body(asked)
    if stream:
        body["stream"] = True
        if not api.translatable and rng.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    cached = asked.may_be_cached and not api.bare
    group = _group_of(cached, stream and native and name == "messages", fault, leave)
    model = "CheapModel" if len(asked.question) <= SHORT_CHARACTERS else "ExpensiveModel"
    if group is Group.STATED and not native and rng.random() < 0.5:
        body["model"] = "auto"
    else:
        body["model"] = catalog_name(model, group, native=native)
    if fault is not None and "count=" in fault:
        fault = f"{fault},id={number}"  # each is the first of its kind
    return Planned(number, group, name, feature, stream, body, fault, leave)


def _leave(rng: random.Random, stream: bool) -> Leave:
    if stream and rng.random() < 0.75:
        return Leave(events=rng.randint(1, 12))
    return Leave(seconds=rng.uniform(0.02, 0.2))


def _group_of(cached: bool, states_prompt_first: bool, fault: str | None, leave: Leave | None) -> Group:
    if leave is None and fault not in FAULTS_WITHOUT_USAGE:
        return Group.STATED
    if not cached:
        return Group.UNSTATED
    # A native message's first event has the prompt's usage, its cached part too.
    begun = leave.events > 0 if leave else fault != "no_usage"
    return Group.UNSTATED if states_prompt_first and begun else Group.UNDISCOUNTED
