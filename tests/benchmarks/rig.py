"""What the speed benchmarks stand on: two cores, a provider that costs next to nothing, and the load.

What is measured has the first core for itself. The other one has the clients, the provider, Redis and this
process: it puts itself there, and whatever it starts follows, unless it says otherwise.

The provider is an nginx with a fixed answer and, for streams, a small program in C; both are in this folder,
as are the clients of the streams. Plain requests are wrk's. Needs `nginx`, `wrk` and `cc` on the path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import lasting_port
from tests.support.processes import Service, running, running_redis

HERE = Path(__file__).parent
NEEDED = ("nginx", "wrk", "cc", "taskset")
STREAM_CHUNKS = 50
STREAM_GAP_MS = 20
MODEL, STREAM_MODEL = "mock", "mock-stream"
CHAT = "/v1/chat/completions"
BODY = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant that answers briefly and exactly."},
        {"role": "user", "content": "What is the capital of France, and how many people live there today?"},
    ],
    "temperature": 0.2,
    "max_tokens": 128,
}
STREAM_BODY = BODY | {"model": STREAM_MODEL, "stream": True, "stream_options": {"include_usage": True}}
ANSWER = {
    "id": "chatcmpl-AbCdEf0123456789",
    "object": "chat.completion",
    "created": 1763880000,
    "model": "mock",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The capital of France is Paris. It lies on the Seine and has been the capital "
                "since the tenth century, with a population of a little over two million people.",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 42,
        "completion_tokens": 38,
        "total_tokens": 80,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_mock",
}
NGINX = """\
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  tcp_nodelay on;
  client_max_body_size 64m;
  client_body_buffer_size 2m;
  client_body_temp_path temp-body; proxy_temp_path temp-proxy; fastcgi_temp_path temp-fastcgi;
  uwsgi_temp_path temp-uwsgi; scgi_temp_path temp-scgi;
  {servers}
}}
"""
FIXED_ANSWER = """\
server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}"""
PROXY = """\
upstream plain {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  upstream streamed {{ server 127.0.0.1:{stream_upstream}; keepalive 1024; }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://plain; }}
  }}
  server {{
    listen 127.0.0.1:{stream_port} backlog=4096;
    location / {{ proxy_pass http://streamed; proxy_buffering off; }}
  }}"""


@dataclass(frozen=True)
class Rig:
    """The two cores, the ports of the provider, a Redis, a models file, and a folder for the rest."""

    folder: Path
    core: int
    load_core: int
    upstream: int
    stream_upstream: int
    redis_url: str
    models_file: Path

    def pinned(self, command: list[str], cores: str = "") -> list[str]:
        """The command on the core of what is measured, or on these."""
        return ["taskset", "-c", cores or str(self.core), *command]

    def body_file(self, body: dict[str, object]) -> Path:
        """A file with such a body."""
        data = json.dumps(body, separators=(",", ":")).encode()
        file = self.folder / f"body-{abs(hash(data))}.json"
        file.write_bytes(data)
        return file


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """All of it, until the block ends.

    :raises SystemExit: where this machine lacks what it takes, in one line
    """
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        sys.exit(f"The benchmark needs on the path: {', '.join(missing)}.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("The benchmark needs two cores: one for what is measured, one for the load.")
    os.sched_setaffinity(0, {cores[1]})
    for name in ("sse_server", "sse_load"):
        subprocess.run(["cc", "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")], check=True)
    upstream, stream_upstream = lasting_port(), lasting_port()
    with ExitStack() as started:
        favour("self")
        started.callback(favour, "self", "0")
        answer = json.dumps(ANSWER, separators=(",", ":"))
        started.enter_context(
            nginx(folder / "upstream", upstream, FIXED_ANSWER.format(port=upstream, answer=answer))
        )
        command = [str(folder / "sse_server"), str(stream_upstream), str(STREAM_CHUNKS), str(STREAM_GAP_MS)]
        url = f"http://127.0.0.1:{stream_upstream}"
        streams = started.enter_context(running(command, url, folder / "sse.log", "/", {}))
        favour(streams.process.pid)
        redis_url = started.enter_context(running_redis(folder))
        models_file = folder / "models.toml"
        models_file.write_text(models_toml(upstream, stream_upstream))
        yield Rig(folder, cores[0], cores[1], upstream, stream_upstream, redis_url, models_file)


def models_toml(upstream: int, stream_upstream: int, more: int = 0) -> str:
    """A models file: one that answers whole, one for streams, and more like the former that cost more."""
    tables = [_table(MODEL, upstream, 0.15), _table(STREAM_MODEL, stream_upstream, 0.15)]
    tables += [_table(f"{MODEL}-{number}", upstream, 1 + number / 100) for number in range(more)]
    return "\n".join(tables)


def _table(name: str, port: int, price: float) -> str:
    return f"""\
[{name}]
base_url = "http://127.0.0.1:{port}/v1"
upstream_name = "mock-1"
apis = ["chat_completions"]
usd_per_million_tokens = {{ input = {price}, cached_input = {price / 2}, output = {4 * price} }}
"""


@contextmanager
def nginx(folder: Path, port: int, servers: str, prefix: tuple[str, ...] = ()) -> Iterator[Service]:
    """An nginx with these servers, the first of them at `port`."""
    folder.mkdir()
    folder.chmod(0o755)  # its worker is another user where root starts it
    (folder / "nginx.conf").write_text(NGINX.format(servers=servers))
    command = [*prefix, "nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with running(command, f"http://127.0.0.1:{port}", folder / "nginx.log", "/", {}) as service:
        favour(service.process.pid)
        yield service


def favour(process: int | str, nice: str = "-15") -> None:
    """Have the kernel prefer this process's session to other programs, where it groups by session and may:
    a busy machine then disturbs less."""
    with suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(nice)


@contextmanager
def nginx_proxy(rig: Rig) -> Iterator[tuple[Service, int]]:
    """An nginx before the provider, on the core of what is measured; its port of streams."""
    port, stream_port = lasting_port(), lasting_port()
    servers = PROXY.format(
        upstream=rig.upstream, stream_upstream=rig.stream_upstream, port=port, stream_port=stream_port
    )
    with nginx(rig.folder / "proxy", port, servers, tuple(rig.pinned([]))) as service:
        yield service, stream_port
