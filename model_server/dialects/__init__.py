"""The APIs that a mock speaks: each reads a request, has the one engine answer it, and writes the answer."""

from collections.abc import Mapping

from model_server.delivery import Dialect
from model_server.dialects.anthropic import CountTokens, Messages
from model_server.dialects.chat import Chat
from model_server.dialects.embeddings import Embeddings
from model_server.dialects.responses import Responses
from model_server.dialects.text import Text
from model_server.profile import ModelProfile


def dialects_of(profile: ModelProfile) -> Mapping[str, Dialect]:
    """Every dialect of the model, by the path where it is spoken."""
    return {
        "/v1/chat/completions": Chat(profile),
        "/v1/completions": Text(profile),
        "/v1/embeddings": Embeddings(profile),
        "/v1/messages": Messages(profile),
        "/v1/messages/count_tokens": CountTokens(),
        "/v1/responses": Responses(profile),
    }
