"""The gateway's command line, as people and scripts run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.support.processes import ROOT


@dataclass(frozen=True)
class FlaskCommands:
    """Those of one group, on a Redis and a prefix."""

    group: str
    url: str
    prefix: str

    def run(self, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": self.url,
            "REDIS_KEY_PREFIX": self.prefix,
            **environ,
        }
        command = [sys.executable, "-m", "flask", "--app", "gateway.cli", self.group, *args]
        return subprocess.run(
            command, cwd=ROOT, env=environ, input=stdin, capture_output=True, text=True, timeout=60
        )

    def output(self, *args: str, stdin: str = "") -> str:
        done = self.run(*args, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def json(self, *args: str, code: int = 0, stdin: str = "") -> Any:
        done = self.run(*args, "--json", stdin=stdin)
        assert (done.returncode, done.stderr) == (code, ""), done.stderr
        return json.loads(done.stdout)

    def refusal(self, *args: str) -> str:
        """Of what cannot be done, in one line."""
        done = self.run(*args)
        assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr
