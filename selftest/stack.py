"""The running stack as the self-test uses it: by HTTP, by its keys in Redis, by its mocks' controls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import redis
import requests
import urllib3

from selftest.answers import Answer
from selftest.books import Books
from selftest.client import post
from selftest.mock import Bill, Mock
from selftest.settings import Settings
from selftest.verdicts import CannotRun, DoesNotHold, NotTried
from selftest.workers import Workers

SHORT = "What is the capital of France?"
LONG = (
    "Explain the concept of quantum entanglement and its implications for modern computing. "
    "Cover Bell's theorem and experimental verification methods in detail."
)
CHAT = "/v1/chat/completions"
LOOK_SECONDS = 10.0
REDIS_SECONDS = 5.0
BACK_SECONDS = 60.0
BACK_POLL_SECONDS = 0.25
# A fault that fails nothing: the mock counts what reaches it.
COUNT_ONLY = "id=selftest"
# No provider answers this, so that it costs nothing where the stack serves others than the mocks.
REFUSED_EVERYWHERE: dict[str, Any] = {"temperature": 99, "max_tokens": 1}


class Stack:
    """A gateway, its two mocks and its Redis. `key` is what requests carry where keys are required."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cheap = Mock("CheapModel", settings.cheap_model_url)
        self.expensive = Mock("ExpensiveModel", settings.expensive_model_url)
        self.mocks = (self.cheap, self.expensive)
        self.workers = Workers(settings.gateway_pid)
        self.key: str | None = None
        self.books_at_start: Books | None = None
        self._made_keys: list[str] = []

    def chat(
        self,
        content: str = SHORT,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        leave_after: float | None = None,
        **fields: Any,
    ) -> Answer:
        """The answer to one message. `leave_after` is when its client leaves, in seconds.

        :raises requests.RequestException: where the gateway cannot be reached
        """
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.post(CHAT, body, key=key, headers=headers, leave_after=leave_after)

    def post(
        self,
        path: str,
        body: Any,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        leave_after: float | None = None,
    ) -> Answer:
        """The same for any body: bytes as they are, else as JSON."""
        if key := key or self.key:
            headers = {"Authorization": f"Bearer {key}"} | (headers or {})
        return post(self.settings.gateway_url + path, body, headers or {}, leave_after)

    def get(self, path: str, **headers: str) -> requests.Response:
        """A GET at the gateway, whatever it answers."""
        return requests.get(self.settings.gateway_url + path, headers=headers, timeout=LOOK_SECONDS)

    def metrics(self) -> Any:
        """The gateway's totals as JSON."""
        answer = self.get("/metrics")
        answer.raise_for_status()
        return answer.json(parse_float=Decimal)

    @contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        """A connection of its own to Redis, gone afterwards."""
        with redis.Redis.from_url(
            self.settings.redis_url, decode_responses=True, socket_timeout=REDIS_SECONDS
        ) as client:
            yield client

    def counted(self, model: str) -> Bill:
        """What Redis has counted for a model."""
        names = ("requests", "input_tokens", "output_tokens", "cached_input_tokens", "cost_usd")
        with self.redis() as client:
            values: Any = client.mget(
                [f"{self.settings.redis_key_prefix}:model:{model}:{name}" for name in names]
            )
        calls, input_tokens, output_tokens, cached_input_tokens = (int(value or 0) for value in values[:4])
        return Bill(calls, input_tokens, cached_input_tokens, output_tokens, Decimal(values[4] or 0))

    @contextmanager
    def failing(self, *, cheap: str | None = None, expensive: str | None = None) -> Iterator[None]:
        """Have the mocks serve every request by these faults in the block. After it both answer again.

        :raises DoesNotHold: where the gateway does not go back to them in a minute
        """
        try:
            if cheap is not None:
                self.cheap.fail(cheap)
            if expensive is not None:
                self.expensive.fail(expensive)
            yield
        finally:
            self.mend()
        self.await_models()

    def require_on(self, *switches: str) -> None:
        """
        :raises NotTried: where one is off
        """
        if off := self.settings.switched_off & set(switches):
            raise NotTried(f"{', '.join(sorted(off))}: off")

    def mend(self) -> None:
        """End all faults."""
        for mock in self.mocks:
            mock.work()

    def await_models(self) -> float:
        """Wait until each model answers what is asked of it by itself, and give the seconds.

        :raises DoesNotHold: where that takes longer than a minute
        """
        begun = time.monotonic()
        for mock in self.mocks:
            while True:
                answer = self.chat(model=mock.name)
                if answer.looks_whole and answer.model == mock.name:
                    break
                if time.monotonic() - begun > BACK_SECONDS:
                    raise DoesNotHold(
                        f"{mock.name} works again and has not been asked for {BACK_SECONDS:g} s "
                        f"({answer.code})"
                    )
                time.sleep(BACK_POLL_SECONDS)
        return time.monotonic() - begun

    def make_key(self, **fields: Any) -> tuple[str, str]:
        """A new virtual key: its id and its text; needs the admin key. It is revoked when the run ends."""
        answer = self._admin("POST", "/admin/keys", json={"name": "selftest", **fields})
        record = answer.json()
        self._made_keys.append(record["id"])
        return record["id"], record["key"]

    def key_record(self, key_id: str) -> Any:
        """What the gateway says of a virtual key, amounts as `Decimal`."""
        return self._admin("GET", f"/admin/keys/{key_id}").json(parse_float=Decimal)

    def revoke_keys(self) -> None:
        """Revoke all keys that were made."""
        while self._made_keys:
            self._admin("DELETE", f"/admin/keys/{self._made_keys.pop()}")

    def _admin(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = requests.request(
            method,
            self.settings.gateway_url + path,
            headers={"Authorization": f"Bearer {self.settings.admin_key}"},
            timeout=LOOK_SECONDS,
            **options,
        )
        answer.raise_for_status()
        return answer

    def require_mocks(self) -> None:
        """Look whether the stack is there and serves its two mocks alone, by requests that no provider
        answers; have a key where one is needed.

        :raises CannotRun: where it is not so
        """
        if self.settings.provider_urls:
            raise CannotRun("The stack serves real providers: trying its promises there would cost money.")
        try:
            self.mend()
            self._require_two_models()
            reached = {}
            for mock in self.mocks:
                mock.fail(COUNT_ONLY)
                self.chat(model=mock.name, **REFUSED_EVERYWHERE)
                reached[mock.name] = mock.seen_since_fault()
            self.mend()
            with self.redis() as client:
                client.ping()
        except requests.RequestException as error:
            where = urllib3.util.parse_url(error.request.url if error.request and error.request.url else "")
            raise CannotRun(
                f"The stack is not there: {where.host}:{where.port} does not answer as it should."
            ) from error
        except redis.RedisError as error:
            raise CannotRun(f"Redis does not answer: {error}.") from error
        if any(number != 1 for number in reached.values()):
            told = ", ".join(f"{number} reached {name}'s mock" for name, number in reached.items())
            raise CannotRun(
                f"One request was sent to each model, {told}: the gateway serves other models than these, "
                "or other clients too. The self-test would spend or count what is not its own."
            )

    def _require_two_models(self) -> None:
        models = self.get("/v1/models")
        if models.status_code == 401:
            if self.settings.admin_key is None:
                raise CannotRun(
                    "The gateway wants keys (GATEWAY_REQUIRE_KEYS): set GATEWAY_ADMIN_KEY as well."
                )
            _, self.key = self.make_key()
            models = self.get("/v1/models", Authorization=f"Bearer {self.key}")
        models.raise_for_status()
        names = {model["id"] for model in models.json()["data"]} - {"auto"}
        if names != {mock.name for mock in self.mocks}:
            raise CannotRun(
                f"The gateway serves {', '.join(sorted(names))}: "
                "trying its promises with others than its two mock models could cost money."
            )
