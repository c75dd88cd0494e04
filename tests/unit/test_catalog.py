"""The two models, and where their prices come from."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from gateway.apis import Api
from gateway.billing import Usage
from gateway.catalog import Catalog, Model
from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.errors import ModelNotAllowed, ModelNotFound
from gateway.models_file import load_catalog
from gateway.prices import Price, TokenPrice

SECRET = "sk-5ecr3t"
PRICES = "{input = 1, cached_input = 0.5, output = 2.25}"
BOTH = f"""
[CheapModel]
base_url = "http://cheap_model:8081/v1"
usd_per_million_tokens = {PRICES}
[ExpensiveModel]
base_url = "http://expensive_model:8082/v1"
usd_per_million_tokens = {PRICES}
"""
NO_PRICES = ["-1", "-0.1", "1000000", "1e6", "nan", "-nan", "inf", "-inf", "1e400", "'1'", "true", "[]", "{}"]


def load(**environ: str) -> Catalog:
    return load_catalog(Settings.from_env(environ))


def load_text(folder: Path, text: str | bytes, **environ: str) -> Catalog:
    file = folder / "models.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(MODELS_FILE=str(file), **environ)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(InvalidSetting) as refused:
        load_text(folder, text)
    return str(refused.value)


def with_prices(cheap: str) -> str:
    return BOTH.replace(PRICES, cheap, 1)


def price(usd: str) -> TokenPrice:
    return TokenPrice(Decimal(usd), Decimal(usd), Decimal(usd))


def model(name: str, usd: str) -> Model:
    return Model(name, "http://model/v1", name, None, price(usd))


def test_the_models_file_as_shipped_prices_the_two_mock_models() -> None:
    cheap, expensive = load()
    assert (cheap.name, cheap.upstream_name, cheap.base_url, cheap.api_key) == (
        "CheapModel",
        "CheapModel",
        "http://cheap_model:8081/v1",
        None,
    )
    assert (expensive.name, expensive.base_url) == ("ExpensiveModel", "http://expensive_model:8082/v1")
    assert cheap.price == TokenPrice(Decimal("0.10"), Decimal("0.025"), Decimal("0.40"))
    assert expensive.price == TokenPrice(Decimal("1.00"), Decimal("0.10"), Decimal("5.00"))


def test_a_price_is_the_decimal_that_the_file_spells(tmp_path: Path) -> None:
    catalog = load_text(tmp_path, with_prices("{input = 0.1, cached_input = 0, output = 3e-1}"))
    assert catalog.named("CheapModel").price == TokenPrice(Decimal("0.1"), Decimal(0), Decimal("0.3"))
    assert catalog.named("CheapModel").price.cost(Usage(1, 0, 1)) == Decimal("0.0000004")


def test_a_model_of_the_file_has_its_provider_s_name_or_else_its_own(tmp_path: Path) -> None:
    catalog = load_text(tmp_path, BOTH.replace("[CheapModel]", '[CheapModel]\nupstream_name = "llama3.2:1b"'))
    assert catalog.named("CheapModel").upstream_name == "llama3.2:1b"
    assert catalog.named("ExpensiveModel").upstream_name == "ExpensiveModel"


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://proxy.example:4000/v1"])
@pytest.mark.parametrize(
    ("usage", "usd"),
    [  # 0.25 USD per million tokens of input, 0.025 of cached input, 2.00 of output
        (Usage(1_000_000, 0, 0), "0.25"),
        (Usage(1_000_000, 1_000_000, 0), "0.025"),
        (Usage(0, 0, 1_000_000), "2"),
        (Usage(1234, 1000, 567), "0.0012175"),
        (Usage(1, 1, 1), "0.000002025"),
        (Usage(0, 0, 0), "0"),
    ],
)
def test_a_model_named_as_its_provider_does_costs_its_published_price(
    url: str, usage: Usage, usd: str
) -> None:
    cheap = load(CHEAP_MODEL_NAME="gpt-5-mini", CHEAP_MODEL_URL=url).named("CheapModel")
    assert (cheap.name, cheap.upstream_name, cheap.base_url) == ("CheapModel", "gpt-5-mini", url)
    assert cheap.price.cost(usage) == Decimal(usd)


@pytest.fixture(scope="module")
def gpt_5_mini() -> Price:
    return load(CHEAP_MODEL_NAME="gpt-5-mini").named("CheapModel").price


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_published_price_is_exact(gpt_5_mini: Price, prompt: int, cached: int, output: int) -> None:
    cached = min(prompt, cached)
    cost = gpt_5_mini.cost(Usage(prompt, cached, output))
    assert cost * 10**9 == (prompt - cached) * 250 + cached * 25 + output * 2000


def test_one_model_may_have_a_published_price_and_the_other_one_of_the_file() -> None:
    catalog = load(EXPENSIVE_MODEL_NAME="gpt-5-mini")
    assert isinstance(catalog.named("CheapModel").price, TokenPrice)
    assert catalog.named("ExpensiveModel").price.cost(Usage(0, 0, 1_000_000)) == 2


def test_a_table_is_not_needed_for_a_model_with_a_published_price(tmp_path: Path) -> None:
    names = {"CHEAP_MODEL_NAME": "gpt-5-mini", "EXPENSIVE_MODEL_NAME": "gpt-5-mini"}
    urls = dict.fromkeys(("CHEAP_MODEL_URL", "EXPENSIVE_MODEL_URL"), "https://api.openai.com/v1")
    assert load_text(tmp_path, "", **names, **urls).named("ExpensiveModel").upstream_name == "gpt-5-mini"


@pytest.mark.parametrize("prefix", ["CHEAP_MODEL", "EXPENSIVE_MODEL"])
@pytest.mark.parametrize("name", ["no-such-model-at-all", "x\ny", "é"])
def test_a_name_without_a_published_price_is_refused(prefix: str, name: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load(**{f"{prefix}_NAME": name, f"{prefix}_API_KEY": SECRET})
    assert str(refused.value).startswith(f"{prefix}_NAME: no published price")
    assert len(str(refused.value).splitlines()) == 1
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "[CheapModel",
        "CheapModel",
        "[CheapModel]\n[CheapModel]",
        "a = 1\n\nb",
        'a = "\x01"',
        b"a = '\xff'",
        BOTH.encode("utf-16"),
        b"\x00",
        "a = " + "9" * 5000,
        "a = 1e99999999999999999999",
        "a = " + "[" * 100_000,
        "a = 2026-02-30",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str | bytes) -> None:
    line = refusal(tmp_path, text)
    assert line.startswith("MODELS_FILE: cannot be read: ")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", ["missing.toml", "missing/models.toml", ".", "new\nline.toml", "x" * 300])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^MODELS_FILE: cannot be read: ") as refused:
        load(MODELS_FILE=str(tmp_path / name))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        BOTH.replace("[CheapModel]", "[[CheapModel]]"),
        "CheapModel = 1",
        'CheapModel = "x"',
        "[CheapModel]",
        *(with_prices(prices) for prices in ("1", '"1"', "[]", "[1, 2, 3]", "{}", "{input = 1, output = 1}")),
        with_prices("{input = 1, cached_input = 1, output = 1, extra = 1}"),
        with_prices("{Input = 1, cached_input = 1, output = 1}"),
        *(with_prices(f"{{input = 1, cached_input = {amount}, output = 1}}") for amount in NO_PRICES),
        *(
            BOTH.replace("[CheapModel]", f"[CheapModel]\nupstream_name = {name}")
            for name in ('""', "1", "[]", "true")
        ),
    ],
    ids=lambda text: repr(" ".join(text.split())[:60]),
)
def test_a_file_without_a_price_for_each_model_is_refused(tmp_path: Path, text: str) -> None:
    line = refusal(tmp_path, text)
    assert line.startswith("MODELS_FILE: ")
    assert "Model" in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "# nothing"])
def test_a_file_that_lists_no_model_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text) == "MODELS_FILE: lists no model"


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example writes the file anew
@given(st.binary() | st.text('[]{}"=.,#\n 019einfatruecheapModl').map(str.encode))
def test_whatever_the_file_holds_it_is_read_or_refused(tmp_path: Path, text: bytes) -> None:
    assert refusal(tmp_path, text).startswith("MODELS_FILE: ")


@pytest.mark.parametrize("name", ["CheapModel", "ExpensiveModel"])
def test_a_model_is_found_by_the_name_that_clients_use(name: str) -> None:
    assert load().named(name).name == name


@pytest.mark.parametrize("name", ["", "auto", "cheapmodel", "gpt-5-mini", "CheapModel\n"])
def test_no_other_name_finds_a_model(name: str) -> None:
    catalog = load(CHEAP_MODEL_NAME="gpt-5-mini")
    with pytest.raises(ModelNotFound) as refused:
        catalog.named(name)
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("cheap", "expensive", "dearest"),
    [("0.1", "1", "ExpensiveModel"), ("2", "1", "CheapModel"), ("1", "1", "ExpensiveModel")],
)
def test_the_dearest_model_is_so_by_price_and_not_by_name(cheap: str, expensive: str, dearest: str) -> None:
    catalog = Catalog(model("CheapModel", cheap), model("ExpensiveModel", expensive))
    assert catalog.names[-1] == dearest


def test_a_model_in_a_log_shows_no_key() -> None:
    catalog = load(LLM_GATEWAY_API_KEY=SECRET, CHEAP_MODEL_NAME="gpt-5-mini")
    assert catalog.named("CheapModel").api_key == SECRET
    for each in catalog:
        assert SECRET not in repr(each)
        assert SECRET not in str(each)


THREE = Catalog(model("A", "3"), model("claude-own", "1"), model("B", "2"), auto_aliases=("claude-*",))


def test_the_part_that_a_key_may_use_keeps_its_order_and_what_stands_for_auto() -> None:
    part = THREE.only(frozenset({"A", "B", "gone"}))
    assert (part.names, len(part)) == (["B", "A"], 2)
    assert part.leaves_choice("claude-sonnet-4-5")
    assert part.leaves_choice("auto")
    assert THREE.names == ["claude-own", "B", "A"]


def test_without_a_list_a_key_may_use_every_model() -> None:
    assert THREE.only(None).names == THREE.names


def test_a_name_outside_of_the_part_is_forbidden_and_not_unknown() -> None:
    part = THREE.only(frozenset({"A", "gone"}))
    # One that also stands for auto by its pattern is still that model's name.
    for name in ("B", "claude-own"):
        assert not part.leaves_choice(name)
        with pytest.raises(ModelNotAllowed) as refused:
            part.named(name)
        assert refused.value.param == "model"
    for name in ("gone", "no-such-model"):
        with pytest.raises(ModelNotFound):
            part.named(name)
    assert part.named("A").name == "A"
    assert THREE.named("B").name == "B"


def test_a_part_of_a_part_forbids_what_either_leaves_out() -> None:
    part = THREE.only(frozenset({"A", "B"})).only(frozenset({"B", "claude-own"}))
    assert part.names == ["B"]
    for name in ("A", "claude-own"):
        with pytest.raises(ModelNotAllowed):
            part.named(name)


def test_the_part_that_speaks_an_api_forbids_the_same() -> None:
    part = THREE.only(frozenset({"A"}))
    assert part.speaking(Api.CHAT_COMPLETIONS).names == ["A"]
    assert len(part.speaking(Api.MESSAGES)) == 0
    with pytest.raises(ModelNotAllowed):
        part.speaking(Api.MESSAGES).named("B")


def test_the_mock_models_say_how_long_they_answer_and_where_they_tell_their_bills() -> None:
    for each in load(CHEAP_MODEL_URL="http://elsewhere:8081/v1"):
        assert (each.max_output_tokens, each.bill_path) == (4096, "/ledger/{call_id}")


def test_a_model_that_the_environment_names_has_neither_from_its_table() -> None:
    cheap = load(CHEAP_MODEL_NAME="gpt-5-mini").named("CheapModel")
    assert (cheap.max_output_tokens, cheap.bill_path) == (None, None)
