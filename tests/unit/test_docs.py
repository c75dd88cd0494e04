"""The examples of the documentation that are settings are settings that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from honcho.environ import parse

from gateway.apis import Api
from gateway.config import Settings
from gateway.models_file import load_catalog

ROOT = Path(__file__).parents[2]
PROVIDERS = (ROOT / "docs" / "providers.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "lines", blocks(PROVIDERS, "sh"), ids=lambda lines: lines.split("//")[1].split("/")[0]
)
def test_a_providers_lines_start_a_gateway_that_knows_its_prices(lines: str, tmp_path: Path) -> None:
    models = (ROOT / "gateway" / "models.toml").read_text()
    expensive = models[models.index("\n[ExpensiveModel]") :]
    (own,) = blocks(PROVIDERS, "toml")
    (tmp_path / "models.toml").write_text(own + expensive)
    settings = parse(lines)
    catalog = load_catalog(Settings.from_env(settings | {"MODELS_FILE": str(tmp_path / "models.toml")}))
    assert catalog.names == ["CheapModel", "ExpensiveModel"]
    cheap_model = catalog.named("CheapModel")
    assert cheap_model.base_url == settings["CHEAP_MODEL_URL"]
    assert cheap_model.upstream_name == settings.get("CHEAP_MODEL_NAME", "llama3.2")
    assert catalog.named("ExpensiveModel").api_key


def test_the_readmes_lines_are_a_providers() -> None:
    readme = (ROOT / "README.md").read_text()
    (lines,) = [block for block in blocks(readme, "sh") if block.startswith("CHEAP_MODEL_URL")]
    catalog = load_catalog(Settings.from_env(parse(lines)))
    assert catalog.dearest(Api.CHAT_COMPLETIONS).upstream_name == "gpt-5"


def test_the_documentation_names_every_setting() -> None:
    config = (ROOT / "gateway" / "config.py").read_text()
    documented = (ROOT / "README.md").read_text() + (ROOT / "docs" / "settings.md").read_text()
    settings = set(re.findall(r'"([A-Z]+_[A-Z_]+)"', config)) - {"CHEAP_MODEL", "EXPENSIVE_MODEL"}
    assert [name for name in sorted(settings) if f"`{name}`" not in documented] == []
