"""Anthropic's Messages."""

from model_server.completion import complete
from model_server.delivery import Stream, Whole, to_json
from model_server.dialects.anthropic_output import render_end, render_events, render_message
from model_server.dialects.anthropic_schema import parse_prompt, parse_request
from model_server.profile import ModelProfile


class Messages:
    """`POST /v1/messages`."""

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile

    def answer(self, body: bytes, *, states_usage: bool) -> Whole | Stream:
        """A `message`, or its events."""
        request = parse_request(body)
        answer = complete(self._profile, request)
        if request.stream:
            return Stream(render_events(answer, states_usage), render_end(), answer.usage)
        return Whole(render_message(answer, states_usage), answer.usage)


class CountTokens:
    """`POST /v1/messages/count_tokens`, which costs nothing."""

    def answer(self, body: bytes, *, states_usage: bool) -> Whole:
        """What a message with the same prompt would be billed as input, cached or not."""
        return Whole(to_json({"input_tokens": parse_prompt(body).tokens}).encode(), None)
