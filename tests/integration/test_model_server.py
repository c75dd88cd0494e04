"""The mock servers on the wire: real gunicorn, real sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
URL = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
STREAM: dict[str, Any] = {**HELLO, "stream": True}
START_SECONDS = 15


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def connect(self, timeout: float = 10) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def request(
        self, method: str, path: str, body: object = None, fault: str | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"X-Mock-Fault": fault} if fault else {})
            response = connection.getresponse()
            return response, response.read()

    def ledger(self) -> dict[str, Any]:
        totals: dict[str, Any] = json.loads(self.request("GET", "/ledger")[1], parse_float=Decimal)
        return totals


def raw_request(body: object, fault: str | None = None, *headers: str) -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {URL} HTTP/1.1", "Host: mock", f"Content-Length: {len(data)}", *headers]
    if fault is not None:
        lines.append(f"X-Mock-Fault: {fault}")
    return "\r\n".join([*lines, "", ""]).encode() + data


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = connection.recv(65536)
        assert data, f"the connection ended before {mark!r}: {received!r}"
        received += data
    return received


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launch(log: Path, model: str = "cheap_model", **environ: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                Path(sys.executable).parent / "gunicorn",
                "-c",
                "model_server/gunicorn.conf.py",
                f"{model}.app:create_app()",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def running(log: Path, model: str = "cheap_model", **environ: str) -> Iterator[Server]:
    port = free_port()
    process = launch(log, model, PORT=str(port), **environ)
    server = Server(port, process, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                server.request("GET", "/healthz")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not start:\n{log.read_text()}")
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("cheap") / "log"
    # The environment's number of workers must not split the ledger.
    with running(log, FIRST_TOKEN_SECONDS="0.01", TOKEN_INTERVAL_SECONDS="0.05", WEB_CONCURRENCY="3") as one:
        yield one


@dataclass
class Billed:
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@contextmanager
def billing(server: Server) -> Iterator[Billed]:
    """What the block's requests add to the ledger, known after the block."""
    before, billed = server.ledger(), Billed()
    yield billed
    after = server.ledger()
    billed.calls = after["calls"] - before["calls"]
    billed.input_tokens = after["input_tokens"] - before["input_tokens"]
    billed.output_tokens = after["output_tokens"] - before["output_tokens"]


def wait_for(server: Server, calls: int, input_tokens: int) -> dict[str, Any]:
    deadline = time.monotonic() + 5
    while True:
        totals = server.ledger()
        if (totals["calls"], totals["input_tokens"]) == (calls, input_tokens):
            return totals
        assert time.monotonic() < deadline, totals
        time.sleep(0.02)


def test_a_stream_arrives_chunk_by_chunk(server: Server) -> None:
    arrivals = []
    with billing(server) as billed, server.connect() as connection:
        connection.sendall(raw_request(STREAM))
        received = b""
        while b"[DONE]" not in received:
            received += connection.recv(65536)
            arrivals.append(time.monotonic())
    assert b"Transfer-Encoding: chunked" in received
    # Seven events, 50 ms apart: they neither come at once nor in one piece.
    assert len(arrivals) >= 6
    assert arrivals[-1] - arrivals[0] > 0.2
    assert billed == Billed(1, 8, 5)


def test_the_ledger_counts_every_one_of_many_concurrent_requests(server: Server) -> None:
    def work() -> None:
        for stream in (False, True):
            server.request("POST", URL, {**HELLO, "stream": stream})

    with billing(server) as billed:
        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert billed == Billed(40, 320, 200)


def test_the_official_client_chats(server: Server) -> None:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hello"}])
        assert answer.choices[0].message.content == "CheapModel: Hello"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 13

        chunks = list(
            client.chat.completions.create(
                model="x",
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "CheapModel: Hello"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 5

        assert [model.id for model in client.models.list()] == ["CheapModel"]
        assert client.models.retrieve("CheapModel").object == "model"


def test_the_official_client_calls_tools_and_sees_errors(server: Server) -> None:
    parameters: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="x",
            messages=[{"role": "user", "content": "Rome"}],
            tools=[{"type": "function", "function": {"name": "weather", "parameters": parameters}}],
            tool_choice="required",
        )
        assert answer.choices[0].message.tool_calls is not None
        call = answer.choices[0].message.tool_calls[0]
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Rome"})

        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(
                model="x",
                messages=[{"role": "user", "content": "Hello"}],
                extra_headers={"X-Mock-Fault": "status=429,retry_after=2"},
            )
        assert limited.value.response.headers["Retry-After"] == "2"
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="x", messages=[])
        assert refused.value.param == "messages"


class Weather(BaseModel):
    city: str
    days: int


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{server.port}/v1"
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as one:
        yield one


@pytest.fixture
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    url = f"http://127.0.0.1:{server.port}"
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as one:
        yield one


def test_the_official_client_streams_several_tool_calls(client: openai.OpenAI) -> None:
    tools: list[Any] = [
        {"type": "function", "function": {"name": name, "parameters": Weather.model_json_schema()}}
        for name in ("today", "tomorrow")
    ]
    with client.chat.completions.stream(
        model="x",
        messages=[{"role": "user", "content": "Rome"}],
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=True,
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert [call.function.name for call in message.tool_calls] == ["today", "tomorrow"]
    for call in message.tool_calls:
        assert Weather.model_validate_json(call.function.arguments) == Weather(city="Rome", days=1)


def test_the_official_client_completes_and_embeds(client: openai.OpenAI) -> None:
    prompts = ["One", "Two"]
    whole = client.completions.create(model="x", prompt=prompts)
    assert [choice.text for choice in whole.choices] == ["CheapModel: One", "CheapModel: Two"]
    texts = ["", ""]
    for chunk in client.completions.create(model="x", prompt=prompts, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]

    by_default = client.embeddings.create(model="x", input=prompts)
    as_floats = client.embeddings.create(model="x", input=prompts, encoding_format="float")
    assert by_default == as_floats
    assert [len(each.embedding) for each in by_default.data] == [16, 16]
    assert by_default.usage.prompt_tokens == 2


def test_the_official_client_holds_a_conversation_by_responses(client: openai.OpenAI) -> None:
    tools: list[Any] = [
        {"type": "function", "name": name, "parameters": Weather.model_json_schema(), "strict": True}
        for name in ("today", "tomorrow")
    ]
    with client.responses.stream(
        model="x", input="Rome", tools=tools, tool_choice="required", parallel_tool_calls=True
    ) as stream:
        first = stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, call.parsed_arguments) for call in calls] == [
        (name, {"city": "Rome", "days": 1}) for name in ("today", "tomorrow")
    ]
    second = client.responses.create(
        model="x",
        previous_response_id=first.id,
        input=[
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls
        ],
    )
    assert second.output_text == "CheapModel: Rome"
    with client.responses.stream(model="x", input="Rome", text_format=Weather) as parsing:
        assert parsing.get_final_response().output_parsed == Weather(city="Rome", days=1)
    with client.responses.stream(model="x", input="Rome", max_output_tokens=2) as cut:
        assert [event.type for event in cut][-1] == "response.incomplete"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="x", input="x", previous_response_id="resp_0")
    assert refused.value.code == "previous_response_not_found"


def test_anthropics_client_holds_a_conversation(claude: anthropic.Anthropic) -> None:
    tools: list[Any] = [
        {"name": name, "input_schema": Weather.model_json_schema()} for name in ("today", "tomorrow")
    ]
    messages: list[Any] = [{"role": "user", "content": "Rome"}]
    with claude.messages.stream(
        model="x",
        max_tokens=99,
        messages=messages,
        tools=tools,
        tool_choice={"type": "any", "disable_parallel_tool_use": False},
    ) as stream:
        first = stream.get_final_message()
    used = [block for block in first.content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in used] == [
        (name, {"city": "Rome", "days": 1}) for name in ("today", "tomorrow")
    ]
    assert first.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "sunny"} for block in used]
    messages += [
        {"role": "assistant", "content": [block.to_dict() for block in used]},
        {"role": "user", "content": results},
    ]
    second = claude.messages.create(model="x", max_tokens=99, messages=messages, tools=tools)
    assert [block.to_dict() for block in second.content] == [{"type": "text", "text": "CheapModel: Rome"}]
    counted = claude.messages.count_tokens(model="x", messages=messages, tools=tools)
    assert counted.input_tokens == second.usage.input_tokens
    with claude.messages.stream(model="x", max_tokens=99, messages=messages[:1]) as text:
        assert "".join(text.text_stream) == "CheapModel: Rome"
        assert text.get_final_message().usage.output_tokens == 4
    parsed = claude.messages.parse(
        model="x", max_tokens=99, messages=messages[:1], output_format=Weather
    ).parsed_output
    assert parsed == Weather(city="Rome", days=1)


def test_anthropics_client_sees_its_own_errors(claude: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "Rome"}]
    for fault, kind in (
        ("status=429,retry_after=2", anthropic.RateLimitError),
        ("status=529", anthropic.OverloadedError),
    ):
        with pytest.raises(kind) as failed:
            claude.messages.create(
                model="x", max_tokens=9, messages=messages, extra_headers={"X-Mock-Fault": fault}
            )
        assert failed.value.request_id == failed.value.response.headers["request-id"]
    with pytest.raises(anthropic.BadRequestError, match="'messages'"):
        claude.messages.create(model="x", max_tokens=9, messages=[])


def test_connect_reset_sends_a_tcp_reset_and_bills_nothing(server: Server) -> None:
    with billing(server) as billed, server.connect() as connection:
        connection.sendall(raw_request(HELLO, "connect_reset"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert billed == Billed()


def test_a_stall_before_the_first_byte_is_silence_then_the_end(server: Server) -> None:
    with billing(server) as billed, server.connect() as connection:
        connection.sendall(raw_request(HELLO, "stall_before_first_byte=0.4"))
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        assert connection.recv(1) == b""
    assert billed == Billed()


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_stalled_stream_ends_soon_after_its_client_leaves(server: Server, reset: bool) -> None:
    before = server.ledger()
    connection = server.connect()
    connection.sendall(raw_request(STREAM, "stall_midstream"))
    read_until(connection, b"pMod")
    time.sleep(0.3)
    assert server.ledger()["input_tokens"] == before["input_tokens"]
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    left = time.monotonic()
    after = wait_for(server, before["calls"] + 1, before["input_tokens"] + 8)
    assert time.monotonic() - left < 3
    assert after["output_tokens"] - before["output_tokens"] == 2


def test_a_stalled_plain_answer_promises_its_whole_length(server: Server) -> None:
    with billing(server) as billed, server.connect() as connection:
        connection.sendall(raw_request(HELLO, "stall_midstream=0.3"))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    [length] = [int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
    assert len(body) == length // 2
    assert billed == Billed(1, 8, 5)


@pytest.mark.parametrize(("body", "output"), [(HELLO, 5), (STREAM, 2)], ids=["plain", "stream"])
def test_a_cut_answer_is_incomplete(server: Server, body: dict[str, Any], output: int) -> None:
    with billing(server) as billed, pytest.raises(http.client.IncompleteRead) as cut:
        server.request("POST", URL, body, "cut_midstream")
    assert b"chatcmpl-" in cut.value.partial
    assert billed == Billed(1, 8, output)


@pytest.mark.parametrize(
    ("path", "body", "input_tokens"),
    [
        ("/v1/completions", {"prompt": "Hello"}, 2),
        ("/v1/messages", {**HELLO, "max_tokens": 99}, 8),
        ("/v1/responses", {"input": "Hello"}, 8),
    ],
)
def test_a_cut_stream_is_incomplete_in_every_dialect(
    server: Server, path: str, body: dict[str, Any], input_tokens: int
) -> None:
    with billing(server) as billed, pytest.raises(http.client.IncompleteRead) as cut:
        server.request("POST", path, {**body, "stream": True}, "cut_midstream")
    assert b'"Chea"' in cut.value.partial
    assert b'"o"' not in cut.value.partial
    assert (billed.calls, billed.input_tokens) == (1, input_tokens)
    assert 0 < billed.output_tokens < 5


def test_counting_tokens_costs_nothing(server: Server) -> None:
    with billing(server) as billed:
        response, body = server.request("POST", "/v1/messages/count_tokens", HELLO)
    assert (response.status, json.loads(body)) == (200, {"input_tokens": 8})
    assert response.headers["request-id"].startswith("req_")
    assert billed == Billed()


def test_malformed_json_leaves_the_connection_whole(server: Server) -> None:
    with billing(server) as billed:
        response, body = server.request("POST", URL, HELLO, "malformed_json")
    assert response.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert billed == Billed(1, 8, 5)


def test_slow_adds_to_the_latency(server: Server) -> None:
    started = time.monotonic()
    assert server.request("POST", URL, HELLO, "slow=0.3")[0].status == 200
    assert 0.3 < time.monotonic() - started < 5


def test_a_fault_with_a_count_fails_that_often(server: Server) -> None:
    fault = f"status=503,count=2,id={time.time_ns()}"
    statuses = [server.request("POST", URL, HELLO, fault)[0].status for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_a_client_leaving_midstream_pays_for_what_was_sent(server: Server) -> None:
    before = server.ledger()
    with server.connect() as connection:
        connection.sendall(raw_request(STREAM))
        read_until(connection, b'"content":"Chea"')
    after = wait_for(server, before["calls"] + 1, before["input_tokens"] + 8)
    assert 1 <= after["output_tokens"] - before["output_tokens"] < 5


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: magic, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\n\r\n", 417),
        (f"POST {URL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(), 400),
        (f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".encode(), 413),
    ],
    ids=["line", "header", "long line", "long header", "coding", "expect", "chunk", "too large"],
)
def test_protocol_errors_are_json_too(server: Server, request_bytes: bytes, status: int) -> None:
    with server.connect() as connection:
        connection.sendall(request_bytes)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = json.loads(response.read())
        response.close()
    assert response.status == status
    assert response.headers["Content-Type"] == "application/json"
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_every_line_of_the_log_is_json(server: Server) -> None:
    before = server.log.read_text().count('"status": 200')
    server.request("POST", URL, HELLO)
    # The line is written once the answer has gone.
    assert eventually(lambda: server.log.read_text().count('"status": 200') == before + 1)
    assert eventually(lambda: server.log.read_text().endswith("}\n"))
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    assert "Booting worker" in " ".join(line["message"] for line in lines)
    assert sum("Booting worker" in line["message"] for line in lines) == 1
    last = lines[-1]
    assert (last["message"], last["model"], last["status"]) == ("completion", "CheapModel", 200)
    assert not [line for line in lines if line["level"] == "ERROR"]


def test_the_expensive_model_serves_itself(tmp_path: Path) -> None:
    with running(tmp_path / "log", "expensive_model") as server:
        started = time.monotonic()
        body = json.loads(server.request("POST", URL, HELLO)[1])
        assert time.monotonic() - started >= 0.2
        assert body["choices"][0]["message"]["content"] == "ExpensiveModel: Hello"
        assert server.ledger()["cost_usd"] == Decimal("0.000038")


def test_sigterm_does_not_wait_for_idle_connections(tmp_path: Path) -> None:
    with running(tmp_path / "log") as server:
        used, unused, halfway = (server.connect() for _ in range(3))
        with used, unused, halfway:
            used.sendall(raw_request(HELLO))
            assert b"keep-alive" in read_until(used, b"}}}")
            halfway.sendall(b"POST / HTTP/1.1\r\nHost:")
            time.sleep(0.1)
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0
            assert time.monotonic() - started < 8
            assert used.recv(1) == b""
            assert unused.recv(1) == b""


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_request_in_work_finishes_on_sigterm(tmp_path: Path, stream: bool) -> None:
    latency = {"FIRST_TOKEN_SECONDS": "2.5", "TOKEN_INTERVAL_SECONDS": "0.1"}
    with running(tmp_path / "log", **latency) as server, server.connect() as working, server.connect():
        working.sendall(raw_request({**HELLO, "stream": stream}))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        received = read_to_end(working)
        assert (b"[DONE]" if stream else b"CheapModel: Hello") in received
        assert server.process.wait(10) == 0


def test_a_connection_kept_alive_into_the_stop_serves_its_request_and_ends(tmp_path: Path) -> None:
    with running(tmp_path / "log", FIRST_TOKEN_SECONDS="0.3") as server, server.connect() as connection:
        connection.sendall(raw_request(HELLO))
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        read_until(connection, b"}}}")
        connection.sendall(raw_request(HELLO))
        assert b"Connection: close" in read_to_end(connection)
        assert server.process.wait(10) == 0


@pytest.mark.parametrize(
    "environ", [{"FIRST_TOKEN_SECONDS": "soon"}, {"TOKEN_INTERVAL_SECONDS": "-1"}, {"PORT": "http"}]
)
def test_a_bad_setting_stops_the_start_with_one_line(tmp_path: Path, environ: dict[str, str]) -> None:
    log = tmp_path / "log"
    assert launch(log, **environ).wait(START_SECONDS) != 0
    [line] = log.read_text().splitlines()
    assert next(iter(environ)) in line
