"""OpenAI's Responses."""

import uuid

from model_server.completion import complete
from model_server.delivery import Stream, Whole
from model_server.dialects.responses_output import ResponseWriter
from model_server.dialects.responses_schema import parse_request
from model_server.dialects.responses_store import ResponseStore
from model_server.profile import ModelProfile


class Responses:
    """`POST /v1/responses`, remembering its latest answers for those that follow them."""

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile
        self._store = ResponseStore()

    def answer(self, body: bytes, *, states_usage: bool) -> Whole | Stream:
        """A `response`, or its events."""
        asked = parse_request(body, self._store.recall)
        answer = complete(self._profile, asked.request)
        writer = ResponseWriter(f"resp_{uuid.uuid4().hex}", asked.echoed, answer, states_usage)
        if asked.stored:
            self._store.remember(writer.id, asked.conversation.followed_by(answer.choices[0]))
        if asked.request.stream:
            *chunks, end = writer.render_events()
            return Stream(chunks, end.event, answer.usage)
        return Whole(writer.render(), answer.usage)
