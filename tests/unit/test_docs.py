"""The examples of the documentation that are settings are settings that work."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click
import pytest
from honcho.environ import parse

from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.keys.commands import keys_commands
from gateway.models_file import load_catalog
from gateway.router import choose
from gateway.routing.policy import PromptLength
from gateway.schema.chat import parse_chat_request
from gateway.schema.prompts import parse_embedding_request

ROOT = Path(__file__).parents[2]
PROVIDERS = (ROOT / "docs" / "providers.md").read_text()
KEYS = (ROOT / "docs" / "keys.md").read_text()
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PICTURES = sorted((ROOT / "docs").glob("*.svg"))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


TWO_MODELS = [lines for lines in blocks(PROVIDERS, "sh") if "CHEAP_MODEL_URL" in lines]
OWN_SERVER, ANY_NUMBER = blocks(PROVIDERS, "toml")


@pytest.mark.parametrize("lines", TWO_MODELS, ids=lambda lines: lines.split("//")[1].split("/")[0])
def test_a_providers_lines_start_a_gateway_that_knows_its_prices(lines: str, tmp_path: Path) -> None:
    models = (ROOT / "gateway" / "models.toml").read_text()
    expensive = models[models.index("\n[ExpensiveModel]") :]
    (tmp_path / "models.toml").write_text(OWN_SERVER + expensive)
    settings = parse(lines)
    catalog = load_catalog(Settings.from_env(settings | {"MODELS_FILE": str(tmp_path / "models.toml")}))
    assert catalog.names == ["CheapModel", "ExpensiveModel"]
    cheap_model = catalog.named("CheapModel")
    assert cheap_model.base_url == settings["CHEAP_MODEL_URL"]
    assert cheap_model.upstream_name == settings.get("CHEAP_MODEL_NAME", "llama3.2")
    assert catalog.named("ExpensiveModel").api_key


def test_the_eight_providers_of_the_contents_are_there() -> None:
    headings = re.findall(r"^## (.*)$", PROVIDERS, flags=re.MULTILINE)
    assert headings[:-1] == [
        "OpenAI",
        "Anthropic",
        "Azure",
        "Gemini",
        "OpenRouter",
        "Groq",
        "vLLM and Ollama",
    ]
    assert len(TWO_MODELS) == len(headings) - 1


def test_the_file_of_many_models_routes_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(ANY_NUMBER)
    (keys,) = [lines for lines in blocks(PROVIDERS, "sh") if lines.startswith("OPENAI_API_KEY")]
    settings = parse(keys) | {"MODELS_FILE": str(tmp_path / "models.toml")}
    catalog = load_catalog(Settings.from_env(settings))

    def chosen(content: object, **fields: object) -> str:
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return choose(parse_chat_request(json.dumps(body).encode()), catalog, PromptLength(150)).model.name

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert chosen("short") == "local"
    assert chosen([image]) == "gpt-5-mini"
    assert chosen("long " * 40) == "claude-opus-4-5"
    assert chosen("short", model="claude-sonnet-4-5") == "local"
    assert chosen("short", model="gpt-5-pro") == "gpt-5-pro"
    embeddings = parse_embedding_request(b'{"input": "x"}')
    assert choose(embeddings, catalog, PromptLength(150)).model.name == "embeddings"


def test_the_readmes_lines_are_a_providers() -> None:
    readme = (ROOT / "README.md").read_text()
    (lines,) = [block for block in blocks(readme, "sh") if block.startswith("CHEAP_MODEL_URL")]
    catalog = load_catalog(Settings.from_env(parse(lines)))
    assert list(catalog)[-1].upstream_name == "gpt-5"


def test_the_documentation_names_every_setting() -> None:
    config = (ROOT / "gateway" / "config.py").read_text()
    documented = (ROOT / "README.md").read_text() + (ROOT / "docs" / "settings.md").read_text()
    settings = set(re.findall(r'"([A-Z]+_[A-Z_]+)"', config)) - {"CHEAP_MODEL", "EXPENSIVE_MODEL"}
    assert [name for name in sorted(settings) if f"`{name}`" not in documented] == []


def test_the_page_on_keys_names_every_command_and_option() -> None:
    options = {
        option
        for command in keys_commands.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert [name for name in keys_commands.commands if f"| `{name}" not in KEYS] == []
    assert [option for option in sorted(options) if f"`{option}`" not in KEYS] == []


def test_the_page_on_keys_names_every_admin_route() -> None:
    paths = json.loads((ROOT / "gateway" / "openapi.json").read_text())["paths"]
    admin = {path: operations for path, operations in paths.items() if path.startswith("/admin/")}
    assert len(admin) > 3
    for path, operations in admin.items():
        rows = [line for line in KEYS.splitlines() if line.startswith("|") and f"{path}`" in line]
        documented = {method for row in rows for method in re.findall(r"[A-Z]{3,}", row.split("|")[1])}
        assert documented == {method.upper() for method in operations if method != "parameters"}, path


def test_the_codes_of_the_page_on_keys_are_errors_with_that_status() -> None:
    told = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", KEYS, flags=re.MULTILINE)
    codes = {(str(error.status), error.code) for error in GatewayError.__subclasses__()}
    assert len(told) > 5
    assert [row for row in told if row not in codes] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_page_or_a_picture_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]*\.(?:md|svg))(?:#[^)]*)?\)", page.read_text())
    links = [link for link in links if link != CONTRIBUTING.name]  # which the image lacks
    assert [link for link in links if not (page.parent / link).is_file()] == []


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_needs_nothing_from_elsewhere_and_says_in_words_what_it_shows(picture: Path) -> None:
    text = picture.read_text()
    root = ElementTree.fromstring(text)  # noqa: S314 - our own file
    assert len(root.attrib["aria-label"]) > 50
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|@import|url\((?!#)|<script|<image", text)


@pytest.mark.skipif(not CONTRIBUTING.exists(), reason="the image has no CONTRIBUTING.md")
def test_the_table_of_where_things_are_names_files_that_there_are() -> None:
    paths = re.findall(r"`([\w./]+/[\w./]*)`", CONTRIBUTING.read_text())
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []
