"""What must not reach a provider."""

from __future__ import annotations

import uuid

from selftest.stack import CHAT, SHORT, Stack
from selftest.verdicts import Promise, Trial

MESSAGES = "/v1/messages"


def secrets_stay_here(stack: Stack, trial: Trial) -> str:
    canary = f"canary-{uuid.uuid4().hex}"
    for mock in stack.mocks:  # where it is seen at all, it is found
        mock.send({"X-Canary": canary})
        trial.expect(
            any(seen["canary"] for seen in mock.seen(canary)), f"{mock.name} does not tell what it sees"
        )
    secret = f"sk-{uuid.uuid4().hex}"
    headers = {
        "Cookie": f"session={secret}",
        "Proxy-Authorization": f"Basic {secret}",
        "X-Api-Key": secret,
        "Api-Key": secret,
        "OpenAI-Organization": secret,
        "X-Forwarded-For": secret,
        "Referer": f"http://{secret}/",
    }
    if stack.key is None:
        headers["Authorization"] = f"Bearer {secret}"
    else:  # which stands for the client here, in the one place where the gateway looks for it
        del headers["X-Api-Key"], headers["Api-Key"]
    body = {"model": "auto", "max_tokens": 20, "messages": [{"role": "user", "content": SHORT}]}
    for path in (CHAT, MESSAGES):
        for model in ("CheapModel", "ExpensiveModel"):
            for stream in (False, True):
                asked = {**body, "model": model, "stream": stream}
                answer = stack.post(f"{path}?key={secret}", asked, headers=headers)
                trial.times += 1
                trial.expect(answer.status == 200, f"{path}: {answer.code}")
    reached = 0
    for mock in stack.mocks:
        for text in {secret, stack.key or secret}:
            seen = mock.seen(text)[-trial.times :]
            leaked = next((each for each in seen if each["canary"]), None)
            trial.expect(leaked is None, f"a client's secret reached {mock.name}: {_suspects(leaked)}")
        names = {name for each in seen for name in each["headers"]}
        trial.expect("cookie" not in names, f"a cookie reached {mock.name}")
        reached += len(seen)
    return f"no secret in the heads of {reached} requests that reached the models"


def _suspects(request: dict[str, list[str]] | None) -> str:
    return ", ".join(request["headers"]) if request else ""


PROMISES = (
    Promise(
        "privacy",
        "A client's keys and cookies never reach a provider",
        "secrets in 8 headers and the query; the models say what they got",
        secrets_stay_here,
    ),
)
