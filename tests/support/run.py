"""`make run`: the Procfile's processes on the wanted ports, after a look at whether these are free.

Settings come from the shell or else from a `.env` file, as with Docker Compose.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from honcho.environ import parse

from tests.support.ports import first_free_port, is_free

PORTS = {"GATEWAY_PORT": 8080, "CHEAP_MODEL_PORT": 8081, "EXPENSIVE_MODEL_PORT": 8082}
FIRST_REDIS_PORT = 6379


def main() -> None:
    settings = Path(".env")
    defaults: dict[str, str] = parse(settings.read_text()) if settings.exists() else {}
    for variable, port in PORTS.items():
        defaults.setdefault(variable, str(port))
    for variable, value in defaults.items():
        os.environ.setdefault(variable, value)
    for variable in PORTS:
        require_free_port(variable)
    redis_port = os.environ.setdefault("REDIS_PORT", str(first_free_port(FIRST_REDIS_PORT)))
    os.environ.setdefault("REDIS_URL", f"redis://127.0.0.1:{redis_port}/0")
    os.environ.setdefault("CHEAP_MODEL_URL", f"http://127.0.0.1:{os.environ['CHEAP_MODEL_PORT']}/v1")
    os.environ.setdefault("EXPENSIVE_MODEL_URL", f"http://127.0.0.1:{os.environ['EXPENSIVE_MODEL_PORT']}/v1")
    Path(".run").mkdir(exist_ok=True)
    gateway = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"
    print(f"gateway: {gateway}   counters: redis-cli -p {redis_port}   stop: Ctrl-C", flush=True)
    # honcho would let a .env file override the shell.
    command = [sys.executable, "-m", "honcho", "--no-colour", "--env", os.devnull, "start"]
    os.execv(sys.executable, command)  # noqa: S606


def require_free_port(variable: str) -> None:
    text = os.environ[variable]
    if not text.isdecimal() or not 0 < int(text) < 65536:
        sys.exit(f"{variable}: must be a port, not {text!r}")
    if not is_free(int(text)):
        sys.exit(f"{variable}: port {text} is taken; try: make run {variable}={int(text) + 1000}")


if __name__ == "__main__":
    main()
