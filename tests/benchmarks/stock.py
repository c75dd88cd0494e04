"""The gateway that one writes in an afternoon: the speed benchmark's yardstick, made of parts as they come.

Flask, a `requests.Session`, the standard library's JSON, a MULTI pipeline of redis-py, under gunicorn's
gevent worker. It checks a key, picks a provider by the model, passes the answer on, and counts what the
tokens cost. It is not to be made faster.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import redis
import requests
from flask import Flask, Response, request
from requests.adapters import HTTPAdapter

USD_PER_TOKEN = {"prompt_tokens": 0.15e-6, "completion_tokens": 0.6e-6}
TAIL = 2048


def create_app() -> Flask:
    """The application. Settings: PLAIN_URL, STREAM_URL, REDIS_URL."""
    app = Flask(__name__)
    urls = {"mock": os.environ["PLAIN_URL"], "mock-stream": os.environ["STREAM_URL"]}
    teams = {"sk-bench": "team-a"}
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=16, pool_maxsize=256))
    store = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=1024)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/chat/completions")
    def chat_completions() -> Response | tuple[dict[str, str], int]:
        team = teams.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if team is None:
            return {"error": "unknown key"}, 401
        body = request.get_json()
        model, streamed = body["model"], bool(body.get("stream"))
        if model not in urls:
            return {"error": "unknown model"}, 404
        answer = session.post(
            urls[model] + "/chat/completions",
            data=json.dumps(body | {"model": "mock-1"}),
            headers={"Content-Type": "application/json", "Authorization": "Bearer sk-upstream"},
            stream=streamed,
            timeout=60,
        )
        media_type = answer.headers["Content-Type"]
        if streamed:
            return Response(relay(team, model, answer), answer.status_code, content_type=media_type)
        if answer.ok:
            count(team, model, answer.json()["usage"])
        return Response(answer.content, answer.status_code, content_type=media_type)

    def relay(team: str, model: str, answer: requests.Response) -> Iterator[bytes]:
        tail = b""
        for piece in answer.raw.stream(65536, decode_content=True):
            tail = (tail + piece)[-TAIL:]
            yield piece
        _, found, usage = tail.partition(b'"usage":')
        if found:
            count(team, model, json.loads(usage[: usage.index(b"}") + 1]))

    def count(team: str, model: str, usage: dict[str, int]) -> None:
        cost = sum(price * usage[kind] for kind, price in USD_PER_TOKEN.items())
        with store.pipeline(transaction=True) as pipeline:
            pipeline.incr("stock:requests")
            pipeline.incrbyfloat(f"stock:cost_usd:{team}", cost)
            pipeline.hincrby("stock:models", model, 1)
            pipeline.execute()

    return app
