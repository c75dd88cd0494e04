"""The load of the speed benchmarks: wrk's plain requests, and streams that begin at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.rig import HERE, STREAM_BODY, STREAM_CHUNKS, STREAM_MODEL


@dataclass(frozen=True)
class Load:
    """What wrk saw: `refused` were answered with an error, `broken` not at all."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int


def run_wrk(
    url: str,
    body_file: Path,
    *,
    clients: int,
    seconds: int,
    headers: tuple[str, ...] = (),
    keys_file: Path | None = None,
) -> Load:
    """Have so many clients post the body over and over for so long.

    :raises RuntimeError: with what wrk said, where it did not
    """
    environ = {"PATH": os.environ["PATH"], "BENCH_BODY": str(body_file), "BENCH_HEADERS": "\n".join(headers)}
    if keys_file is not None:
        environ["BENCH_KEYS"] = str(keys_file)
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
        "-s",
        str(HERE / "post.lua"),
    ]
    done = subprocess.run([*command, url], capture_output=True, text=True, env=environ)
    found = re.search(r"^RESULT (.*)$", done.stdout, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    return Load(**json.loads(found.group(1)))


@dataclass(frozen=True)
class StreamLoad:
    """What the clients of many streams saw; times are milliseconds where they do not say seconds."""

    streams: int
    whole: int
    refused: int
    unfinished: int
    first_p50_ms: float
    first_p99_ms: float
    lag_p50_ms: float
    lag_p99_ms: float
    seconds: float
    cpu_seconds: float


def run_streams(
    folder: Path, url: str, streams: int, *, headers: tuple[str, ...] = (), model: str = STREAM_MODEL
) -> StreamLoad:
    """Open so many streams at once at this URL of the loopback, and read them to their ends."""
    place = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/.*)", url)
    if place is None:
        raise ValueError(url)
    body = json.dumps(STREAM_BODY | {"model": model}, separators=(",", ":"))
    lines = [
        f"POST {place[2]} HTTP/1.1",
        f"Host: 127.0.0.1:{place[1]}",
        "Content-Type: application/json",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    command = [str(folder / "sse_load"), place[1], str(streams), str(STREAM_CHUNKS), "120"]
    request = "\r\n".join([*lines, "", body])
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    return StreamLoad(**json.loads(done.stdout))
