"""Any number of models, and what their tables may say. The two of the environment: `test_catalog.py`."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.apis import Api
from gateway.billing import NO_USAGE, Usage
from gateway.catalog import ASSUMED_CAPABILITIES, Catalog, Model
from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.models_file import load_catalog
from gateway.prices import charge, usd_per_million_tokens

MILLION = 1_000_000
FULL = """
[Full]
base_url = "https://models.example/v1/"
upstream_name = "full-1"
api_key_env = "FULL_KEY"
apis = ["chat_completions", "responses"]
capabilities = ["images", "tools"]
context_window = 1000
max_output_tokens = 200
auto = false
bill_path = "/ledger/{call_id}?of=1"
max_concurrency = 4

[Full.usd_per_million_tokens]
input = 2
cached_input = 1
cache_write = 3
cache_write_1h = 4
output = 8
"""


def load(folder: Path, text: str, **environ: str) -> Catalog:
    file = folder / "models.toml"
    file.write_text(text)
    return load_catalog(Settings.from_env({"MODELS_FILE": str(file), **environ}))


def only(folder: Path, *lines: str, **environ: str) -> Model:
    (model,) = load(folder, "\n".join(["[M]", *lines]), **environ)
    return model


def refusal(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(InvalidSetting) as refused:
        load(folder, text, **environ)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_table_can_say_everything_about_a_model(tmp_path: Path) -> None:
    (model,) = load(tmp_path, FULL, FULL_KEY="sk-1")
    assert (model.name, model.upstream_name) == ("Full", "full-1")
    assert (model.base_url, model.api_key) == ("https://models.example/v1", "sk-1")
    assert model.apis == {Api.CHAT_COMPLETIONS, Api.RESPONSES}
    assert model.capabilities == {"images", "tools"}
    assert (model.context_window, model.max_output_tokens, model.auto) == (1000, 200, False)
    assert (model.bill_path, model.max_concurrency) == ("/ledger/{call_id}?of=1", 4)
    usage = Usage(
        input_tokens=10 * MILLION,
        cached_input_tokens=MILLION,
        output_tokens=MILLION,
        cache_write_tokens=5 * MILLION,
        cache_write_1h_tokens=2 * MILLION,
    )
    assert model.price.cost(usage) == 4 * 2 + 1 * 1 + 3 * 3 + 2 * 4 + 1 * 8


def test_what_a_table_leaves_out_is_assumed(tmp_path: Path) -> None:
    model = only(tmp_path, 'base_url = "http://m:8000/v1"', 'price = "free"')
    assert (model.upstream_name, model.api_key, model.context_window, model.auto) == ("M", None, None, True)
    assert (model.max_output_tokens, model.bill_path, model.max_concurrency) == (None, None, None)
    assert model.apis == {Api.CHAT_COMPLETIONS}
    assert model.capabilities == ASSUMED_CAPABILITIES
    assert model.price.cost(Usage(MILLION, 0, MILLION)) == 0


@pytest.mark.parametrize(
    ("url", "apis", "max_tokens_name", "key_header"),
    [
        ("https://api.openai.com/v1", {Api.RESPONSES}, "max_completion_tokens", "Authorization"),
        (
            "https://mine.openai.azure.com/openai/v1",
            {Api.RESPONSES},
            "max_completion_tokens",
            "Authorization",
        ),
        ("https://api.anthropic.com/v1", {Api.MESSAGES}, "max_tokens", "x-api-key"),
        ("https://api.anthropic.com.example/v1", set(), "max_tokens", "Authorization"),
        ("https://notapi.openai.com/v1", set(), "max_tokens", "Authorization"),
        ("http://localhost:8000/v1", set(), "max_tokens", "Authorization"),
    ],
)
def test_known_providers_are_asked_in_their_own_way(
    tmp_path: Path, url: str, apis: set[Api], max_tokens_name: str, key_header: str
) -> None:
    model = only(tmp_path, f'base_url = "{url}"', 'price = "free"')
    assert model.apis == {Api.CHAT_COMPLETIONS, *apis}
    assert model.habits.max_tokens_name == max_tokens_name
    assert model.habits.messages_key_header == key_header


def test_models_go_from_the_cheapest_to_the_dearest_whatever_their_order(tmp_path: Path) -> None:
    tables = [
        f'[{name}]\nbase_url = "http://m/v1"\n'
        f"usd_per_million_tokens = {{input = {usd}, cached_input = 0, output = {usd}}}\n"
        for name, usd in (("C", 3), ("A", "0.5"), ("D", 30), ("B", 1))
    ]
    catalog = load(tmp_path, "".join(tables))
    assert catalog.names == ["A", "B", "C", "D"]


def test_a_price_that_the_file_does_not_give_is_the_published_one(tmp_path: Path) -> None:
    model = only(tmp_path, 'base_url = "https://api.openai.com/v1"', 'upstream_name = "gpt-5-mini"')
    assert model.price.cost(Usage(MILLION, 0, 0)) == Decimal("0.25")
    assert model.price.source == "published by OpenAI for gpt-5-mini"
    assert model.context_window == 400_000


def test_the_provider_can_be_named_where_the_url_does_not_tell_it(tmp_path: Path) -> None:
    name = 'upstream_name = "openai/gpt-oss-120b"'
    by_url = only(tmp_path, 'base_url = "https://api.groq.com/openai/v1"', name)
    by_name = only(tmp_path, 'base_url = "http://proxy:4000/v1"', name, 'provider = "groq"')
    assert by_name.price.source == by_url.price.source
    assert by_name.price.source.startswith("published by Groq")


@pytest.mark.parametrize(
    ("given", "usage", "usd"),
    [  # published: 0.25, 0.025 and 2
        ("{output = 8}", Usage(2 * MILLION, MILLION, MILLION), "8.275"),
        ("{input = 1}", Usage(2 * MILLION, MILLION, MILLION), "3.025"),
        ("{cached_input = 0}", Usage(2 * MILLION, MILLION, MILLION), "2.25"),
        ("{input = 1, output = 1}", Usage(2 * MILLION, MILLION, MILLION), "2.025"),
        ("{input = 1, cached_input = 1}", Usage(0, 0, MILLION), "2"),
        ("{cache_write = 9}", Usage(2 * MILLION, 0, 0, cache_write_tokens=MILLION), "9.25"),
    ],
)
def test_each_class_that_the_file_leaves_out_has_its_published_price(
    tmp_path: Path, given: str, usage: Usage, usd: str
) -> None:
    model = only(
        tmp_path,
        'base_url = "https://api.openai.com/v1"',
        'upstream_name = "gpt-5-mini"',
        f"usd_per_million_tokens = {given}",
    )
    assert model.price.cost(usage) == Decimal(usd)


def test_a_model_without_any_price_is_refused_and_told_what_to_give(tmp_path: Path) -> None:
    line = refusal(tmp_path, '[M]\nbase_url = "http://m/v1"\nusd_per_million_tokens = {input = 1}')
    assert line.startswith("MODELS_FILE: M: no price is published for 'M'")
    assert "cached_input, output" in line
    assert 'price = "free"' in line


def test_writing_to_a_cache_for_an_hour_has_its_published_price(tmp_path: Path) -> None:
    model = only(tmp_path, 'base_url = "https://api.anthropic.com/v1"', 'upstream_name = "claude-opus-4-5"')
    usage = Usage(
        2 * MILLION, 0, 0, cache_write_tokens=2 * MILLION, cache_write_1h_tokens=MILLION, web_searches=3
    )
    assert model.price.cost(usage) == Decimal("6.25") + 10 + Decimal("0.03")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['base_url = "m/v1"'], "base_url must be a URL"),
        (['base_url = "http://user:secret@m/v1"'], "must not hold credentials"),
        (["base_url = 1"], "base_url must be a text"),
        ([], "base_url is missing"),
        (['base_url = "http://m/v1"', 'api_key = "secret"'], "'api_key' is none of"),
        (['base_url = "http://m/v1"', 'api_key_env = "sk-secret"'], "api_key_env must be the name"),
        (['base_url = "http://m/v1"', "apis = 1"], "apis must be a list"),
        (['base_url = "http://m/v1"', 'apis = ["chat"]'], "apis must be a list of some of: chat_completions"),
        (['base_url = "http://m/v1"', "capabilities = [1]"], "capabilities must be a list of some of: audio"),
        (['base_url = "http://m/v1"', "context_window = 0"], "context_window must be a number of tokens"),
        (['base_url = "http://m/v1"', "context_window = true"], "context_window must be"),
        (
            ['base_url = "http://m/v1"', "max_output_tokens = 0"],
            "max_output_tokens must be a number of tokens",
        ),
        (['base_url = "http://m/v1"', "max_output_tokens = true"], "max_output_tokens must be"),
        (['base_url = "http://m/v1"', "max_output_tokens = 1.5"], "max_output_tokens must be"),
        (['base_url = "http://m/v1"', "max_concurrency = 0"], "max_concurrency must be a number of requests"),
        (['base_url = "http://m/v1"', "max_concurrency = 1.5"], "max_concurrency must be"),
        (['base_url = "http://m/v1"', "max_concurrency = true"], "max_concurrency must be"),
        (['base_url = "http://m/v1"', "bill_path = 1"], "bill_path must be a text"),
        (['base_url = "http://m/v1"', 'bill_path = ""'], "bill_path must be a text"),
        *(
            (['base_url = "http://m/v1"', f'bill_path = "{path}"'], "bill_path must be a path from /")
            for path in (
                "/ledger",
                "/ledger/{id}",
                "ledger/{call_id}",
                "http://m/{call_id}",
                "/{call_id}/{call_id}",
                "/{call_id}#x",
                "/a b/{call_id}",
                "/{{call_id}}",
            )
        ),
        (['base_url = "http://m/v1"', 'auto = "no"'], "auto must be true or false"),
        (['base_url = "http://m/v1"', 'upstream_name = "a\\nb"'], "upstream_name must be a text"),
        (['base_url = "http://m/v1"', "price = 0"], 'price can only be "free"'),
        (
            ['base_url = "http://m/v1"', 'price = "free"', "usd_per_million_tokens = {input = 1}"],
            'price can only be "free"',
        ),
        (['base_url = "http://m/v1"', "usd_per_million_tokens = {tokens = 1}"], "can give cache_write"),
        (
            [
                'base_url = "http://m/v1"',
                "usd_per_million_tokens = {input = 1, cached_input = 1, output = 1, cache_write_1h = 1}",
            ],
            "cache_write_1h needs cache_write",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_a_table_cannot_say_is_refused_in_one_line(
    tmp_path: Path, lines: list[str], problem: str
) -> None:
    free = [] if any("price" in line or "usd" in line for line in lines) else ['price = "free"']
    line = refusal(tmp_path, "\n".join(["[M]", *lines, *free]))
    assert line.startswith("MODELS_FILE: ")
    assert problem in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("auto", True),
        ("claude-opus-4-5", True),
        ("gpt-5", True),
        ("claude-own", False),
        ("M", False),
        ("Claude-x", False),
        ("xgpt-5", False),
        ("gpt-55", False),
    ],
)
def test_names_that_tools_insist_on_can_mean_auto(tmp_path: Path, name: str, chosen: bool) -> None:
    tables = "".join(f'[{each}]\nbase_url = "http://m/v1"\nprice = "free"\n' for each in ("M", "claude-own"))
    catalog = load(tmp_path, tables + '[auto]\naliases = ["claude-*", "gpt-?"]\n')
    assert catalog.names == ["M", "claude-own"]
    assert catalog.leaves_choice(name) is chosen


@pytest.mark.parametrize("table", ['aliases = "x"', "aliases = [1]", 'aliases = [""]', 'price = "free"'])
def test_the_table_of_auto_holds_aliases_and_nothing_else(tmp_path: Path, table: str) -> None:
    model = '[M]\nbase_url = "http://m/v1"\nprice = "free"\n'
    assert refusal(tmp_path, f"{model}[auto]\n{table}").startswith("MODELS_FILE: [auto]")


@pytest.mark.parametrize("name", ["'auto:x'", "' a'", "'a b'", "''", "'-a'", "'é'", f"'{'x' * 129}'"])
def test_a_name_that_no_request_could_mean_is_refused(tmp_path: Path, name: str) -> None:
    assert "cannot be a model's name" in refusal(
        tmp_path, f'[{name}]\nbase_url = "http://m/v1"\nprice = "free"'
    )


@pytest.mark.parametrize("name", ["gpt-5", "'openai/gpt-5'", "'llama3.2:1b'", "'claude@v1'", "'a.b'"])
def test_the_names_of_providers_can_be_the_gateway_s(tmp_path: Path, name: str) -> None:
    catalog = load(tmp_path, f'[{name}]\nbase_url = "http://m/v1"\nprice = "free"')
    assert catalog.names == [name.strip("'")]


def test_a_key_s_variable_must_be_set(tmp_path: Path) -> None:
    assert refusal(tmp_path, FULL) == "FULL_KEY: is not set, though the models file names it"
    assert "sk 1" not in refusal(tmp_path, FULL, FULL_KEY="sk 1")


def test_a_key_of_the_file_is_not_served_to_the_network(tmp_path: Path) -> None:
    line = refusal(tmp_path, FULL, FULL_KEY="sk-1", GATEWAY_BIND="0.0.0.0")
    assert line.startswith("GATEWAY_BIND: refusing")
    assert "sk-1" not in line


def test_other_models_can_stand_beside_the_two_of_the_environment(tmp_path: Path) -> None:
    catalog = load(
        tmp_path,
        FULL + '[CheapModel]\nbase_url = "http://cheap/v1"\nprice = "free"\n',
        FULL_KEY="sk-1",
        CHEAP_MODEL_URL="http://other/v1",
        EXPENSIVE_MODEL_URL="https://api.openai.com/v1",
        EXPENSIVE_MODEL_NAME="gpt-5",
        LLM_GATEWAY_API_KEY="sk-2",
    )
    rows: dict[str, tuple[Any, ...]] = {m.name: (m.base_url, m.upstream_name, m.api_key) for m in catalog}
    assert rows == {
        "CheapModel": ("http://other/v1", "CheapModel", "sk-2"),
        "Full": ("https://models.example/v1", "full-1", "sk-1"),
        "ExpensiveModel": ("https://api.openai.com/v1", "gpt-5", "sk-2"),
    }


def test_a_model_of_the_environment_is_not_described_by_its_table(tmp_path: Path) -> None:
    text = FULL.replace("Full", "CheapModel")
    (model,) = load(
        tmp_path, text, CHEAP_MODEL_NAME="gpt-5-mini", CHEAP_MODEL_URL="https://api.openai.com/v1"
    )
    assert model.capabilities == ASSUMED_CAPABILITIES
    assert (model.context_window, model.auto) == (400_000, True)
    assert (model.max_output_tokens, model.bill_path) == (None, None)
    assert model.price.cost(Usage(MILLION, 0, 0)) == Decimal("0.25")


def test_the_file_may_do_without_the_two(tmp_path: Path) -> None:
    assert load(tmp_path, FULL, FULL_KEY="sk-1").names == ["Full"]


def test_a_url_of_the_environment_overrides_nothing_where_there_is_no_table(tmp_path: Path) -> None:
    catalog = load(tmp_path, FULL, FULL_KEY="sk-1", CHEAP_MODEL_URL="http://m/v1")
    assert catalog.names == ["Full"]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + FULL, FULL_KEY="sk-1").names == ["Full"]


def test_what_is_shown_of_a_model_holds_no_key(tmp_path: Path) -> None:
    (model,) = load(tmp_path, FULL, FULL_KEY="sk-canary")
    assert "canary" not in repr(model.row()) + repr(model)
    assert model.row() == {
        "model": "Full",
        "upstream_name": "full-1",
        "host": "models.example",
        "key": "set",
        "apis": ["chat_completions", "responses"],
        "capabilities": ["images", "tools"],
        "context_window": 1000,
        "max_output_tokens": 200,
        "auto": False,
        "fallbacks": None,
        "max_concurrency": 4,
        "slow_seconds": None,
        "timeouts": {"connect": 5.0, "first_byte": 300.0, "idle": 300.0, "total": 600.0},
        "price": "models.toml",
        "usd_per_million_tokens": {"input": 2.0, "cached_input": 1.0, "cache_write": 3.0, "output": 8.0},
    }


def published(folder: Path, url: str, name: str, *lines: str) -> Model:
    return only(folder, f'base_url = "{url}"', f'upstream_name = "{name}"', *lines)


def test_a_published_price_knows_tiers_of_service_and_audio(tmp_path: Path) -> None:
    gpt_5 = published(tmp_path, "https://api.openai.com/v1", "gpt-5")
    assert gpt_5.price.cost(Usage(MILLION, 0, 0)) == Decimal("1.25")
    assert gpt_5.price.cost(Usage(MILLION, 0, 0, service_tier="flex")) == Decimal("0.625")
    assert gpt_5.price.cost(Usage(MILLION, 0, 0, service_tier="priority")) == Decimal("2.5")
    audio = published(tmp_path, "https://api.openai.com/v1", "gpt-audio")
    usage = Usage(1000, 0, 1000, input_audio_tokens=900, output_audio_tokens=800)
    assert audio.price.cost(usage) == Decimal("0.08225")
    gemini = published(
        tmp_path, "https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-flash"
    )
    both = Usage(1000, 950, 10, input_audio_tokens=900, cached_audio_tokens=850, output_audio_tokens=5)
    assert 0 < gemini.price.cost(both) < Decimal("0.001")


def test_a_long_prompt_reaches_the_dearer_tier_of_the_classes_that_the_file_leaves_out(
    tmp_path: Path,
) -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/openai"
    model = published(tmp_path, url, "gemini-2.5-pro", "usd_per_million_tokens = {input = 1}")
    # 300,000 tokens are above the first tier: output costs 15 and not 10.
    assert model.price.cost(Usage(300_000, 0, 1000)) == Decimal("0.3") + Decimal("0.015")


def test_what_each_request_costs_is_charged_for_answers_alone(tmp_path: Path) -> None:
    sonar = published(tmp_path, "https://api.perplexity.ai", "sonar")
    assert sonar.price.cost(NO_USAGE) > 0
    assert charge(sonar.price, NO_USAGE) == 0
    assert usd_per_million_tokens(sonar.price)["input"] == 1


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("gemini-2.5-flash", "cache_write"),
        ("gemini-2.5-flash", "cached_input"),
        ("gpt-audio-mini", "cached_input"),
        ("openai/gpt-oss-20b:free", "cached_input"),
        ("openai/gpt-oss-20b:free", "output"),
    ],
)
def test_a_class_of_the_file_fits_whatever_is_published_beside_it(
    tmp_path: Path, name: str, listed: str
) -> None:
    url = "https://openrouter.ai/api/v1" if "/" in name else "http://proxy/v1"
    model = published(tmp_path, url, name, f"usd_per_million_tokens = {{{listed} = 7}}")
    assert usd_per_million_tokens(model.price)[listed] == 7
