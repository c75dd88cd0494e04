"""A Docker Compose project of a test's own, with its own volumes and ports."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.ports import any_free_port
from tests.support.processes import ROOT

SERVICES = ("gateway", "cheap_model", "expensive_model", "redis")


@dataclass
class Compose:
    """Runs `docker compose` in one project; `ports` maps 8080, 8081 and 8082 to those that are published."""

    project: str = field(default_factory=lambda: f"stack-test-{uuid.uuid4().hex[:8]}")
    ports: dict[int, int] = field(
        default_factory=lambda: {port: any_free_port() for port in (8080, 8081, 8082)}
    )
    settings: dict[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    files: tuple[Path, ...] = ()  # beside the stack's own, each changing those before it

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        return subprocess.run(
            [
                *("docker", "compose", "--file", str(ROOT / "docker-compose.yml")),
                *(argument for file in self.files for argument in ("--file", str(file))),
                *("--project-directory", str(self.folder), "--project-name", self.project, *arguments),
            ],
            cwd=ROOT,
            env={
                **inherited,
                "GATEWAY_PORT": str(self.ports[8080]),
                "CHEAP_MODEL_PORT": str(self.ports[8081]),
                "EXPENSIVE_MODEL_PORT": str(self.ports[8082]),
                **self.settings,
            },
            capture_output=True,
            text=True,
            check=check,
            timeout=600,
        )

    def up(self, *services: str) -> None:
        self("up", "--detach", "--wait", "--no-build", *services)

    def remove(self) -> None:
        self("--profile", "tests", "down", "--volumes", "--timeout", "5", check=False)

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Run a Python statement inside a service's container."""
        return self("exec", "-T", service, "python", "-c", code, check=False)

    def redis(self, *arguments: str) -> str:
        return self("exec", "-T", "redis", "redis-cli", *arguments).stdout.strip()

    def url(self, port: int = 8080) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def metrics(self) -> Any:
        return requests.get(f"{self.url()}/metrics", timeout=10).json()

    def chat(self, content: str, **body: Any) -> requests.Response:
        return requests.post(
            f"{self.url()}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": content}], **body},
            timeout=30,
        )


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()
