"""OpenAI's embeddings."""

import base64
import hashlib
import math
import struct

from model_server.completion import Usage
from model_server.delivery import Whole, to_json
from model_server.dialects.prompts import parse_prompts
from model_server.errors import InvalidRequest
from model_server.fields import Json, optional_integer, optional_text
from model_server.jsonbody import load_object
from model_server.profile import ModelProfile

DEFAULT_DIMENSIONS = 16
MAX_DIMENSIONS = 3072
ENCODINGS = ("float", "base64")


class Embeddings:
    """`POST /v1/embeddings`."""

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile

    def answer(self, body: bytes, *, states_usage: bool) -> Whole:
        """A list of one unit vector for each input, the same for the same input."""
        data = load_object(body)
        inputs = parse_prompts(data.get("input"), "input")
        for index, each in enumerate(inputs):
            if not each.text:
                at = "input" if data["input"] == "" else f"input[{index}]"
                raise InvalidRequest(f"'{at}' must not be empty.", at)
        optional_text(data, "model")
        dimensions = optional_integer(data, "dimensions", 1, MAX_DIMENSIONS) or DEFAULT_DIMENSIONS
        encoding = optional_text(data, "encoding_format") or "float"
        if encoding not in ENCODINGS:
            raise InvalidRequest("'encoding_format' must be 'float' or 'base64'.", "encoding_format")
        tokens = sum(each.tokens for each in inputs)
        tail = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if states_usage else {}
        vectors = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _encode(embed(each.text, dimensions), encoding),
            }
            for index, each in enumerate(inputs)
        ]
        whole = {"object": "list", "data": vectors, "model": self._profile.name, **tail}
        return Whole(to_json(whole).encode(), Usage(tokens, 0, 0))


def embed(text: str, dimensions: int) -> bytes:
    """A unit vector made from the text's hash, as little-endian 32-bit floats."""
    digest = hashlib.shake_256(text.encode()).digest(4 * dimensions)
    numbers = [
        2 * number + 1 for number in struct.unpack(f"<{dimensions}i", digest)
    ]  # odd, so never all zero
    length = math.hypot(*numbers)
    return struct.pack(f"<{dimensions}f", *(number / length for number in numbers))


def _encode(vector: bytes, encoding: str) -> Json:
    if encoding == "base64":
        return base64.b64encode(vector).decode()
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
