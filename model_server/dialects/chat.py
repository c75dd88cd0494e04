"""OpenAI's chat completions."""

from model_server.completion import complete
from model_server.delivery import DONE, Stream, Whole
from model_server.profile import ModelProfile
from model_server.reply import render, render_chunks
from model_server.schema import parse_request


class Chat:
    """`POST /v1/chat/completions`."""

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile

    def answer(self, body: bytes, *, states_usage: bool) -> Whole | Stream:
        """A `chat.completion`, or its chunks."""
        request = parse_request(body)
        answer = complete(self._profile, request)
        if request.stream:
            chunks = render_chunks(answer, request.include_usage and states_usage)
            return Stream(chunks, DONE, answer.usage)
        return Whole(render(answer, states_usage), answer.usage)
