"""What is remembered of answered Responses, so that a request can follow one of them."""

from collections import OrderedDict
from dataclasses import dataclass

from model_server.completion import Choice, excerpt_of
from model_server.errors import UnknownResponse
from model_server.tokens import TOKENS_PER_MESSAGE

MAX_REMEMBERED = 1000
# More than any model repeats of a question, and less than a memory could not hold a thousand times.
MAX_QUESTION_CHARS = 4096


@dataclass(frozen=True)
class Conversation:
    """A conversation so far: its tokens, without instructions and tools, and the last text of its user."""

    tokens: int = 0
    last_user_text: str = ""

    def followed_by(self, choice: Choice) -> "Conversation":
        """The conversation with the model's answer, of which only what is needed later is kept."""
        text = excerpt_of(self.last_user_text, MAX_QUESTION_CHARS)
        return Conversation(self.tokens + TOKENS_PER_MESSAGE + choice.tokens, text)


class ResponseStore:
    """The latest answered conversations by the id of their last answer; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()

    def remember(self, response_id: str, conversation: Conversation) -> None:
        """Keep a conversation for requests to come."""
        self._conversations[response_id] = conversation
        if len(self._conversations) > MAX_REMEMBERED:
            self._conversations.popitem(last=False)

    def recall(self, response_id: str) -> Conversation:
        """The conversation that ended with this answer; raise `UnknownResponse` where none is known."""
        try:
            return self._conversations[response_id]
        except KeyError:
            raise UnknownResponse(response_id) from None
