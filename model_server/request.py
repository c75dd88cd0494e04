"""What the model is asked, in whichever dialect it was said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from model_server.errors import InvalidRequest
from model_server.fields import Json
from model_server.tokens import TOKENS_PER_REQUEST, warm_prefix


@dataclass(frozen=True)
class Message:
    """One message: who says it, its text, and what it costs to read, in tokens."""

    role: str
    text: str
    tokens: int


@dataclass(frozen=True)
class Prompt:
    """All that the model reads, in tokens; the cached ones are among them."""

    tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Function:
    """A function that the model may call; `parameters` is its JSON schema."""

    name: str
    parameters: Json


@dataclass(frozen=True)
class ResponseFormat:
    """The kind of text asked for: `text`, `json_object` or `json_schema` (then with `schema`)."""

    kind: str = "text"
    schema: Json = None


@dataclass(frozen=True)
class ModelRequest:
    """A request for generated text, checked.

    `questions` are the texts to answer, each with `choices` answers; only a legacy completion has more than
    one. `max_tokens` is per choice. `forced_functions` are called one after the other instead of any text.
    """

    questions: tuple[str, ...]
    prompt: Prompt
    choices: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    response_format: ResponseFormat = ResponseFormat()
    forced_functions: tuple[Function, ...] = ()
    stream: bool = False
    include_usage: bool = False

    @property
    def prompt_tokens(self) -> int:
        """The input tokens, the cached ones included."""
        return self.prompt.tokens

    @property
    def cached_tokens(self) -> int:
        """The input tokens that a cache held."""
        return self.prompt.cached_tokens


def measure_prompt(messages: Sequence[Message], tools_tokens: int, earlier_tokens: int = 0) -> Prompt:
    """What a conversation costs to read; `earlier_tokens` stand before its first message."""
    before_last = earlier_tokens + sum(message.tokens for message in messages[:-1]) + tools_tokens
    tokens = before_last + sum(message.tokens for message in messages[-1:]) + TOKENS_PER_REQUEST
    return Prompt(tokens, warm_prefix(tokens, before_last))


def last_user_text(messages: Sequence[Message], otherwise: str = "") -> str:
    """The text of the last user message; `otherwise` where there is none."""
    return next((message.text for message in reversed(messages) if message.role == "user"), otherwise)


def function_named(functions: Iterable[Function], name: str, param: str) -> Function:
    """The function that a `tool_choice` names at `param`; raise `InvalidRequest` where there is none."""
    for function in functions:
        if function.name == name:
            return function
    raise InvalidRequest(f"'tools' has no function named '{name}'.", param)
