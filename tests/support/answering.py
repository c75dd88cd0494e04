"""Providers whose answers a test writes, with ledgers of their own: one server, a path for each model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROMPT_TOKENS, OUTPUT_TOKENS = 100, 50


@dataclass
class Told:
    """What a provider says to one request. It waits for so many seconds before. `usage` are the tokens of its
    prompt and of its answer."""

    content: Any = ""
    finish: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    seconds: float = 0
    usage: tuple[int, int] = (PROMPT_TOKENS, OUTPUT_TOKENS)
    whole: dict[str, Any] | None = None  # in the place of a chat completion

    def body(self) -> dict[str, Any]:
        if self.status != 200:
            return {"error": {"message": self.content, "type": "x", "param": None, "code": None}}
        if self.whole is not None:
            return self.whole
        message = {"role": "assistant", "content": self.content, **self.message}
        prompt, output = self.usage
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish, **self.choice}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
            },
        }


Answers = Callable[[dict[str, Any]], Told]


@dataclass
class AnsweringModel:
    """`usd` is its price for a million tokens of prompt and of answer. `answers` may be changed at any
    time."""

    usd: tuple[Decimal, Decimal]
    answers: Answers = lambda asked: Told("ok")
    apis: tuple[str, ...] = ("chat_completions",)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Message[str, str]] = field(default_factory=list)
    cost_usd: Decimal = Decimal(0)

    def says(self, *args: Any, **kwargs: Any) -> None:
        """Answer everything alike from now on."""
        self.answers = lambda asked: Told(*args, **kwargs)


@dataclass
class Providers:
    """All models of a test, from the cheapest to the dearest."""

    url: str
    models: dict[str, AnsweringModel]

    def __getitem__(self, name: str) -> AnsweringModel:
        return self.models[name]

    @property
    def calls(self) -> list[int]:
        return [len(model.asked) for model in self.models.values()]

    @property
    def cost_usd(self) -> Decimal:
        return sum((model.cost_usd for model in self.models.values()), Decimal(0))

    def forget(self) -> None:
        """What was asked and billed so far."""
        for model in self.models.values():
            model.asked.clear()
            model.headers.clear()
            model.cost_usd = Decimal(0)

    def models_file(self, folder: Path, **more: str) -> str:
        """The path of a models file with all of them; `more` has further lines for the tables."""
        lines = []
        for name, model in self.models.items():
            lines += [f'["{name}"]', f'base_url = "{self.url}/{name}/v1"', f"apis = {list(model.apis)}"]
            lines += ["max_output_tokens = 1000", more.get(name, "")]
            prompt, output = model.usd
            price = f"input = {prompt}, cached_input = {prompt}, output = {output}"
            lines.append(f"usd_per_million_tokens = {{{price}}}")
        file = folder / "models.toml"
        file.write_text("\n".join(lines) + "\n")
        return str(file)


@contextmanager
def answering(**prices: tuple[str, str]) -> Iterator[Providers]:
    """Providers of models of these names and prices, USD for a million tokens of prompt and of answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model = providers.models[self.path.split("/")[1]]
            model.asked.append(asked)
            model.headers.append(self.headers)
            told = model.answers(asked)
            if told.status == 200:  # whoever leaves meanwhile pays all the same
                prompt, output = told.usage
                model.cost_usd += (prompt * model.usd[0] + output * model.usd[1]) / 10**6
            time.sleep(told.seconds)
            streams = asked.get("stream") is True and told.status == 200 and told.whole is None
            body = _stream(told) if streams else json.dumps(told.body()).encode()
            with suppress(OSError):
                self.send_response(told.status)
                kind = "text/event-stream" if streams else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        models = {name: AnsweringModel((Decimal(a), Decimal(b))) for name, (a, b) in prices.items()}
        providers = Providers(f"http://127.0.0.1:{server.server_port}", models)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield providers
        finally:
            server.shutdown()
            thread.join()


def _stream(told: Told) -> bytes:
    whole = told.body()
    (choice,) = whole["choices"]
    chunk = {
        **whole,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": choice["message"], "finish_reason": told.finish}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
