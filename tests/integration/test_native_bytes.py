"""What a client and a provider of the same API say to each other passes byte for byte."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.echo import echoing_provider
from tests.support.native import events_of, final_usage
from tests.support.native_stack import APIS, body_of, models_file
from tests.support.scripted import scripted_provider
from tests.support.stack import MODELS, ONE_CALL

SETTINGS = ONE_CALL

pytestmark = pytest.mark.heavy

BODIES = {
    "messages": r"""{ "model":"CheapModel" ,"max_tokens":100, "messages": [ {"role":"user",
        "content":"n\u00e9e \/ é"}], "from_the_future": {"a": [1E2, 0.10, {"b": null}]}, "top_k":1.0 }""",
    "responses": r"""{ "input" :"n\u00e9e \/ é", "model":"CheapModel",
        "from_the_future": [1.00, 1E5, "\ud83d\ude00"]}""",
}
ANSWERS = {
    "messages": r"""{ "type":"message","content" : [{"type":"text","text":"n\u00e9e \/ é"}],
        "from_the_future": [1.00], "usage":{"input_tokens":3,"output_tokens":2}}
        """,
    "responses": r"""{"object":"response" ,"output":[] , "from_the_future": 1.00,
        "usage":{"input_tokens":3,"output_tokens":2}}
        """,
}
COMMENT = ": a comment\n\n"
PING = 'event: ping\ndata: {"type": "ping"}\n\n'
NEW = 'id: 7\nretry: 10\nevent: from_the_future\ndata: {"type":"from_the_future" ,"a":1.00}\n\n'
# The event with the final usage is the last but one of a message and the last of a response.
STREAMS = {
    "messages": (
        COMMENT,
        'event: message_start\r\ndata: {"type":"message_start",\r\n'
        'data:"message":{"usage":{"input_tokens":3,"output_tokens":1}}}\r\n\r\n',
        PING,
        NEW,
        'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"né 😀"}}\n\n',
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        '"usage":{"output_tokens":2}}\n\n',
        'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    "responses": (
        COMMENT,
        'event: response.created\r\ndata: {"type":"response.created",\r\n'
        'data: "response":{"usage":null}}\r\n\r\n',
        NEW,
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta", "delta":"né 😀"}\n\n',
        'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed",'
        '"usage":{"input_tokens":3,"output_tokens":2}}}\n\n',
    ),
}
COST = Decimal("0.0000011")  # 3 tokens in and 2 out


def gateway_before(url: str, start_gateway: StartGateway, folder: Path) -> GatewayUnderTest:
    nowhere = dict.fromkeys(MODELS, "http://127.0.0.1:1")
    return start_gateway(MODELS_FILE=models_file(folder, nowhere), CHEAP_MODEL_URL=url)


def http(content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


@pytest.mark.parametrize("api", APIS)
def test_a_body_is_the_clients_but_for_the_models_name(
    start_gateway: StartGateway, tmp_path: Path, api: str
) -> None:
    sent = BODIES[api].encode()
    catalog = Path(models_file(tmp_path, dict.fromkeys(MODELS, "http://127.0.0.1:1")))
    named = catalog.read_text().replace("[CheapModel]\n", '[CheapModel]\nupstream_name = "other/name"\n')
    catalog.write_text(named)
    with echoing_provider() as echo:
        gateway = start_gateway(MODELS_FILE=str(catalog), CHEAP_MODEL_URL=f"{echo.url}/answers/v1")
        answer = requests.post(f"{gateway.gateway_url}/v1/{api}", data=sent, timeout=5)
        assert answer.status_code == 200, answer.text
        [asked] = echo.asked
    assert asked.body == sent.replace(b'"CheapModel"', b'"other/name"')


@pytest.mark.parametrize("api", APIS)
def test_a_whole_answer_keeps_its_bytes(start_gateway: StartGateway, tmp_path: Path, api: str) -> None:
    told = ANSWERS[api].encode()
    with scripted_provider(http("application/json", told)) as url:
        gateway = gateway_before(url, start_gateway, tmp_path)
        body = body_of(api, "short", stream=False)
        answer = requests.post(f"{gateway.gateway_url}/v1/{api}", json=body, timeout=5)
    assert answer.content == told
    assert gateway.counted("CheapModel").cost_usd == COST


@pytest.mark.parametrize("api", APIS)
def test_a_stream_keeps_its_bytes_but_for_the_cost_in_its_final_usage(
    start_gateway: StartGateway, tmp_path: Path, api: str
) -> None:
    stream = [event.encode() for event in STREAMS[api]]
    with scripted_provider(http("text/event-stream", b"".join(stream))) as url:
        gateway = gateway_before(url, start_gateway, tmp_path)
        body = body_of(api, "short", stream=True)
        passed = requests.post(f"{gateway.gateway_url}/v1/{api}", json=body, timeout=5).content
    with_usage = stream[-2 if api == "messages" else -1]
    before, _, after = b"".join(stream).partition(with_usage)
    assert passed.startswith(before)
    assert passed.endswith(after)
    [as_sent], [as_passed] = events_of(with_usage), events_of(passed.removeprefix(before).removesuffix(after))
    assert Decimal(str((final_usage(as_passed) or {}).pop("cost"))) == COST
    assert as_passed == as_sent
    assert gateway.counted("CheapModel").cost_usd == COST
