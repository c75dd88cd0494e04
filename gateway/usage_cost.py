"""The cost of an answer, beside the usage in the events of a provider that speaks the client's API."""

from __future__ import annotations

from decimal import Decimal

from gateway.apis import Api
from gateway.jsontext import NotJson, parse_object
from gateway.sse import Event, with_data


def place_of_usage(api: Api, event: Event) -> tuple[str, ...] | None:
    """Where in an event's JSON the usage object stands that is final for the client, if it has one."""
    chunk = event.chunk or {}
    if api is Api.RESPONSES:
        response = chunk.get("response")
        final = isinstance(response, dict) and isinstance(response.get("usage"), dict)
        return ("response", "usage") if final else None
    if api is Api.MESSAGES and chunk.get("type") != "message_delta":
        return None
    choices = chunk.get("choices")
    if isinstance(choices, list) and not all(_is_finished(choice) for choice in choices):
        return None  # some state it with every chunk
    return ("usage",) if isinstance(chunk.get("usage"), dict) else None


def with_cost(event: Event, place: tuple[str, ...], cost: Decimal) -> bytes:
    """The event with `cost` in USD added to its usage, and all bytes around that as they came."""
    try:
        data = parse_object(event.data)
    except NotJson:  # read by us, but not by every program: better no cost than other figures
        return event.raw
    value = data.values[place[0]]
    with_cost = {"cost": float(cost)}
    for name in reversed(place[1:]):
        with_cost = {name: value[name] | with_cost}
    return with_data(event, data.with_values({place[0]: value | with_cost}))


def _is_finished(choice: object) -> bool:
    return isinstance(choice, dict) and bool(choice.get("finish_reason"))
