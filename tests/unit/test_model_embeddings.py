"""Embeddings of the mocks."""

import base64
import math
import struct
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types import CreateEmbeddingResponse

from cheap_model.app import PROFILE
from model_server.app import create_app
from model_server.config import Settings
from model_server.dialects.embeddings import embed

URL = "/v1/embeddings"
FAST = Settings(first_token_seconds=0, token_interval_seconds=0)


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, FAST).test_client()


def vectors(client: FlaskClient, inputs: object, **fields: Any) -> list[Any]:
    response = client.post(URL, json={"input": inputs, **fields})
    assert response.status_code == 200, response.data
    answer = CreateEmbeddingResponse.model_validate(response.json, strict=False)
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return [each.embedding for each in answer.data]


def test_an_embedding_has_openais_shape(client: FlaskClient) -> None:
    body = client.post(URL, json={"input": "Hello", "model": "whatever"}).json
    assert body is not None
    [vector] = body.pop("data")
    assert body == {"object": "list", "model": "CheapModel", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    assert (vector["object"], vector["index"], len(vector["embedding"])) == ("embedding", 0, 16)


def test_the_same_text_has_the_same_vector_and_another_another(client: FlaskClient) -> None:
    [one] = vectors(client, "one")
    again, other = vectors(client, ["one", "two"])
    assert one == again
    assert one != other
    assert abs(sum(a * b for a, b in zip(one, other, strict=True))) < 0.9


@pytest.mark.parametrize("dimensions", [1, 2, 16, 3072])
def test_a_vector_has_the_length_one_in_all_its_dimensions(client: FlaskClient, dimensions: int) -> None:
    [vector] = vectors(client, "one", dimensions=dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.hypot(*vector), 1, rel_tol=1e-5)


def test_base64_holds_the_same_numbers_as_little_endian_floats(client: FlaskClient) -> None:
    body = client.post(URL, json={"input": "one", "encoding_format": "base64"}).json
    assert body is not None
    raw = base64.b64decode(body["data"][0]["embedding"], validate=True)
    assert raw == embed("one", 16)
    assert [list(struct.unpack("<16f", raw))] == vectors(client, "one", encoding_format="float")


@pytest.mark.parametrize(
    ("inputs", "count", "tokens"),
    [("12345", 1, 2), (["1234", "12345"], 2, 3), ([5, 6, 7], 1, 3), ([[5], [6, 7]], 2, 3)],
)
def test_texts_and_token_ids_are_counted(
    client: FlaskClient, inputs: object, count: int, tokens: int
) -> None:
    body = client.post(URL, json={"input": inputs}).json
    assert body is not None
    assert len(body["data"]) == count
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_it_never_streams(client: FlaskClient) -> None:
    assert client.post(URL, json={"input": "x", "stream": True}).mimetype == "application/json"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x", ""]}, "input[1]"),
        ({"input": [1, "x"]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": 3073}, "dimensions"),
        ({"input": "x", "dimensions": "2"}, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "x", "model": 1}, "model"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, body: dict[str, Any], param: str) -> None:
    response = client.post(URL, json=body)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == param
