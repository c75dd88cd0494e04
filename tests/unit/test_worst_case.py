"""What a request can cost at most: sums worked out by hand, and no usage within its limits costs more."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis import Api
from gateway.billing import Usage
from gateway.catalog import ASSUMED_OUTPUT_TOKENS, Model
from gateway.passage import Translated, passage
from gateway.prices import FREE, Price, TokenPrice, published_price
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.schema.prompts import parse_completion_request, parse_embedding_request
from gateway.schema.responses import parse_responses_request
from gateway.worst_case import WorstCase, worst_case

PRICE = TokenPrice(
    input=Decimal("1.00"),
    cached_input=Decimal("0.10"),
    cache_write=Decimal("1.25"),
    cache_write_1h=Decimal("2.00"),
    output=Decimal("5.00"),
)
PLAIN = TokenPrice(Decimal("1.00"), Decimal("0.10"), Decimal("5.00"))
MODEL = Model("M", "http://m/v1", "m-1", None, PLAIN, apis=frozenset(Api), max_output_tokens=1000)
CHAT_ONLY = Model("M", "http://m/v1", "m-1", None, PLAIN, max_output_tokens=1000)
CACHING = Model("M", "http://m/v1", "m-1", None, PRICE, apis=frozenset(Api), max_output_tokens=1000)
TEXT = "x" * 400  # 100 tokens; a message and the reply add 3 each: 106


def chat(content: object = TEXT, **fields: Any) -> ModelRequest:
    body = {"messages": [{"role": "user", "content": content}], **fields}
    return parse_chat_request(json.dumps(body).encode())


def messages(content: object = TEXT, **fields: Any) -> ModelRequest:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 10, **fields}
    return parse_messages_request(json.dumps(body).encode())


def responses(**fields: Any) -> ModelRequest:
    return parse_responses_request(json.dumps({"input": TEXT, **fields}).encode())


def completion(**fields: Any) -> ModelRequest:
    return parse_completion_request(json.dumps({"prompt": TEXT, **fields}).encode())


def embedding(**fields: Any) -> ModelRequest:
    return parse_embedding_request(json.dumps({"input": TEXT, **fields}).encode())


def of(asked: ModelRequest, model: Model = MODEL) -> WorstCase:
    return worst_case(asked, passage(asked, model))


def published(name: str, url: str, **fields: Any) -> Model:
    price = published_price(name, provider=None, base_url=url)
    assert price is not None
    return Model(
        name, url, name, None, price, apis=frozenset(Api), context_window=price.context_window, **fields
    )


OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"


@pytest.mark.parametrize(
    ("asked", "usd"),
    [
        # 106 x 1.00 / M + 1000 x 5.00 / M
        (chat(), "0.005106"),
        # 106 + 50 x 5
        (chat(max_tokens=50), "0.000356"),
        (chat(max_completion_tokens=50), "0.000356"),
        # either may be the one that the provider reads: 106 + 60 x 5
        (chat(max_completion_tokens=50, max_tokens=60), "0.000406"),
        # 106 + 3 x 50 x 5
        (chat(max_tokens=50, n=3), "0.000856"),
        # no more than the model gives, whatever the client allows: 106 + 1000 x 5
        (chat(max_tokens=10**30), "0.005106"),
        (chat(max_tokens=None, n=None), "0.005106"),
        # best of four, at some servers: 106 + 4 x 50 x 5
        (chat(max_tokens=50, n=2, best_of=4), "0.001106"),
        # 106 + 10 x 5
        (messages(), "0.000156"),
        # 106 + 20 x 5
        (responses(max_output_tokens=20), "0.000206"),
        (responses(), "0.005106"),
        # what is no limit at some servers limits nothing: 106 + 1000 x 5
        (responses(max_output_tokens=0), "0.005106"),
        (responses(max_output_tokens=-1), "0.005106"),
        (messages(max_tokens=0), "0.005106"),
        (messages(max_tokens=-1), "0.005106"),
        # a prompt alone has nothing added: 100 + 8 x 5
        (completion(max_tokens=8), "0.000140"),
        # three prompts, two answers to each: 300 + 6 x 8 x 5
        (completion(max_tokens=8, prompt=[TEXT] * 3, n=2), "0.000540"),
        # five answers are made to each, of which two are given: 300 + 15 x 8 x 5
        (completion(max_tokens=8, prompt=[TEXT] * 3, n=2, best_of=5), "0.000900"),
        (completion(max_tokens=8, prompt=[TEXT] * 3, n=2, best_of=1), "0.000540"),
        # 100 + 1000 x 5
        (completion(max_tokens=0), "0.005100"),
        # nothing is generated: 100, and 200
        (embedding(), "0.000100"),
        (embedding(input=[TEXT, TEXT], max_tokens=9, n=4), "0.000200"),
    ],
)
def test_the_worst_case_is_the_whole_prompt_and_the_longest_answers(asked: ModelRequest, usd: str) -> None:
    assert of(asked).cost == Decimal(usd)


def test_its_parts_are_told() -> None:
    case = of(chat(max_tokens=50, n=3))
    assert case == WorstCase(Decimal("0.000106"), Decimal("0.000005"), choices=3, max_output_tokens=50)
    # 106 + 3 x 7 x 5, and 106 + 3 x 50 x 5 where the answers cannot be longer
    assert (case.cost_of(7), case.least(7)) == (Decimal("0.000211"), Decimal("0.000211"))
    assert case.least(1000) == case.cost == Decimal("0.000856")


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        (Model("M", "http://m/v1", "m", None, PLAIN), ASSUMED_OUTPUT_TOKENS),
        (Model("M", "http://m/v1", "m", None, PLAIN, context_window=200), 94),
        (Model("M", "http://m/v1", "m", None, PLAIN, max_output_tokens=50), 50),
        (Model("M", "http://m/v1", "m", None, PLAIN, context_window=200, max_output_tokens=50), 50),
        (Model("M", "http://m/v1", "m", None, PLAIN, context_window=150, max_output_tokens=50), 44),
        (Model("M", "http://m/v1", "m", None, PLAIN, context_window=107), 1),
        (Model("M", "http://m/v1", "m", None, PLAIN, context_window=10), 1),
        (Model("M", "http://m/v1", "m", None, PLAIN, max_output_tokens=10**6), 10**6),
    ],
)
def test_the_longest_answer_is_what_the_model_gives_and_its_window_leaves(model: Model, limit: int) -> None:
    assert model.output_limit(106) == limit
    assert of(chat(), model).max_output_tokens == limit


@pytest.mark.parametrize(
    ("asked", "usd"),
    [
        # Some caches are written to unasked, so written counts everywhere: 106 x 1.25
        (chat(), "0.0001325"),
        (messages(), "0.0001325"),
        (messages([{"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}]), "0.0001325"),
        # 106 x 2.00
        (
            messages([{"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]),
            "0.000212",
        ),
        (chat(cache_control={"type": "ephemeral", "ttl": "1h"}), "0.000212"),
        # the words alone are no wish for it, but the last is longer: 101 + 6 tokens x 1.25
        (messages("Here is 1h" + "x" * 394), "0.00013375"),
    ],
)
def test_a_prompt_counts_as_written_to_a_cache_and_for_an_hour_where_that_is_asked(
    asked: ModelRequest, usd: str
) -> None:
    assert of(asked, CACHING).input_cost == Decimal(usd)


@pytest.mark.parametrize("spelling", ['"1h"', '"\\u0031h"', '"1\\u0068"', '"\\u0031\\u0068"'])
def test_an_hour_is_read_in_every_spelling(spelling: str) -> None:
    text = json.dumps({"messages": [{"role": "user", "content": TEXT}], "max_tokens": 10, "ttl": 0})
    asked = parse_messages_request(
        text.replace('"ttl": 0', f'"cache_control": {{"ttl": {spelling}}}').encode()
    )
    assert of(asked, CACHING).input_cost == Decimal("0.000212")


def test_a_cache_that_is_cheaper_to_write_to_makes_no_prompt_cheaper() -> None:
    cheap_writes = TokenPrice(Decimal(1), Decimal(0), Decimal(5), cache_write=Decimal("0.5"))
    model = Model("M", "http://m/v1", "m", None, cheap_writes)
    assert of(chat(), model).input_cost == Decimal("0.000106")


def test_a_translated_request_counts_as_what_the_provider_is_sent() -> None:
    asked = responses(instructions=TEXT, max_output_tokens=20)
    way = passage(asked, CHAT_ONLY)
    assert isinstance(way, Translated)
    # two messages of 103 tokens and the reply's 3: 209 x 1.00 + 20 x 5.00
    assert worst_case(asked, way).cost == Decimal("0.000309")


def test_what_costs_nothing_is_always_affordable() -> None:
    model = Model("M", "http://m/v1", "m", None, FREE, max_output_tokens=1000)
    case = of(chat(n=3), model)
    assert {case.cost, case.least(16), case.cost_of(10**9)} == {Decimal(0)}
    assert case.affordable_tokens(Decimal(0)) == case.affordable_tokens(Decimal("0.01")) == 1000


@pytest.mark.parametrize(
    ("asked", "name", "url", "input_usd", "usd_per_million_output"),
    [
        # gpt-5: 1.25 and 10 per million; with priority 2.50 and 20; flex may be served at the usual price
        (chat(), "gpt-5", OPENAI, "0.0001325", 10),
        (chat(service_tier="priority"), "gpt-5", OPENAI, "0.000265", 20),
        (responses(service_tier="priority"), "gpt-5", OPENAI, "0.000265", 20),
        (chat(service_tier="flex"), "gpt-5", OPENAI, "0.0001325", 10),
        (chat(service_tier="auto"), "gpt-5", OPENAI, "0.0001325", 10),
        (chat(service_tier=["priority"]), "gpt-5", OPENAI, "0.0001325", 10),
        # claude-opus-4-5: 6.25 per million written, 10 for an hour, and 25
        (messages(), "claude-opus-4-5", ANTHROPIC, "0.0006625", 25),
        (
            messages(cache_control={"type": "ephemeral", "ttl": "1h"}),
            "claude-opus-4-5",
            ANTHROPIC,
            "0.00106",
            25,
        ),
        # gemini-2.5-pro: 1.25 and 10, above 200,000 tokens of prompt 2.50 and 15; 800,000 + 24 characters
        (chat(), "gemini-2.5-pro", GOOGLE, "0.0001325", 10),
        (chat("x" * 799_976), "gemini-2.5-pro", GOOGLE, "0.25", 10),
        (chat("x" * 799_980), "gemini-2.5-pro", GOOGLE, "0.5000025", 15),
        # gpt-audio: 2.50 and 10, as audio 32 and 64
        (chat(), "gpt-audio", OPENAI, "0.000265", 10),
        (chat(modalities=["text", "audio"]), "gpt-audio", OPENAI, "0.003392", 64),
    ],
    ids=lambda value: value.api if isinstance(value, ModelRequest) else str(value)[:20],
)
def test_a_published_price_has_its_tiers_its_caches_and_its_audio(
    asked: ModelRequest, name: str, url: str, input_usd: str, usd_per_million_output: int
) -> None:
    case = of(asked, published(name, url))
    assert case.input_cost == Decimal(input_usd)
    assert case.usd_per_output_token * 10**6 == usd_per_million_output


def test_what_each_request_costs_is_in_it() -> None:
    model = published("sonar", "https://api.perplexity.ai")
    tokens_alone = Decimal(106) / 10**6  # of input, 1.00 per million
    assert of(chat(), model).input_cost > tokens_alone
    assert of(chat(max_tokens=7), model).cost == model.price.cost(Usage(106, 0, 7))


def test_few_prices_are_worked_out_for_a_request() -> None:
    calls = 0

    class Counting:
        source = "test"

        def cost(self, usage: Usage) -> Decimal:
            nonlocal calls
            calls += 1
            return PRICE.cost(usage)

    of(messages(), Model("M", "http://m/v1", "m", None, Counting(), apis=frozenset(Api)))
    assert calls <= 3


MONEY = st.decimals(0, 1000, places=6)
USD_PER_MILLION = st.decimals(0, 100, places=3)


@given(USD_PER_MILLION, USD_PER_MILLION, st.integers(1, 5), st.integers(0, 10**6), MONEY)
def test_what_is_affordable_costs_no_more_and_one_token_more_would(
    input_usd: Decimal, output_usd: Decimal, choices: int, limit: int, usd: Decimal
) -> None:
    case = WorstCase(input_usd, output_usd / 10**6, choices, limit)
    tokens = case.affordable_tokens(usd)
    assert 0 <= tokens <= limit
    assert case.cost_of(tokens) <= usd or (tokens == 0 and case.input_cost > usd)
    assert tokens == limit or case.cost_of(tokens + 1) > usd


@pytest.mark.parametrize(
    ("usd", "tokens"),
    [  # 106 + 3 x 5 for each token
        ("0.000856", 50),
        ("1", 50),
        ("0.000855999", 49),
        ("0.000121", 1),
        ("0.000120999", 0),
        ("0.000106", 0),
        ("0.0001", 0),
        ("0", 0),
        ("-1", 0),
    ],
)
def test_the_affordable_tokens_are_those_of_each_answer(usd: str, tokens: int) -> None:
    assert of(chat(max_tokens=50, n=3)).affordable_tokens(Decimal(usd)) == tokens


PROMPTS = (7, 106, 199_990, 200_000, 200_001, 300_000)  # tokens, around the steps of published prices


@cache
def prompt_of(tokens: int, fields: str) -> ModelRequest:
    return chat("x" * 4 * (tokens - 6), **json.loads(fields))


TOKEN_PRICES = st.builds(
    lambda uncached, cached, *others: TokenPrice(uncached, min(uncached, cached), *others),
    USD_PER_MILLION,
    USD_PER_MILLION,
    USD_PER_MILLION,
    st.none() | USD_PER_MILLION,
    st.none() | USD_PER_MILLION,
)
PUBLISHED: dict[str, tuple[str, str]] = {
    name: (name, url)
    for url, names in {
        OPENAI: ("gpt-5", "gpt-5-mini", "gpt-4o-mini", "gpt-audio"),
        ANTHROPIC: ("claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-5"),
        GOOGLE: ("gemini-2.5-pro", "gemini-2.5-flash"),
        "https://api.perplexity.ai": ("sonar",),
    }.items()
    for name in names
}


def costs_no_more(draw: Callable[..., Any], price: Price) -> None:
    """Draw a request and a usage that keeps to it, and compare."""
    audio, hour = draw(st.booleans()), draw(st.booleans())
    tier = draw(st.sampled_from([None, "flex", "priority"]))
    choices, limit = draw(st.integers(1, 3)), draw(st.sampled_from([1, 100, 50_000]))
    fields: dict[str, Any] = {"n": choices, "max_tokens": limit}
    fields |= {"service_tier": tier} if tier else {}
    fields |= {"modalities": ["text", "audio"]} if audio else {}
    fields |= {"cache_control": {"type": "ephemeral", "ttl": "1h"}} if hour else {}
    asked = prompt_of(draw(st.sampled_from(PROMPTS)), json.dumps(fields))
    model = Model("M", "http://m/v1", "m", None, price, max_output_tokens=draw(st.integers(1, 60_000)))
    way = passage(asked, model)
    case = worst_case(asked, way)

    prompt = draw(st.integers(0, way.prompt_tokens) | st.just(way.prompt_tokens))
    most = case.choices * case.max_output_tokens
    output = draw(st.integers(0, most) | st.just(most))
    cached = draw(st.integers(0, prompt))
    written = draw(st.integers(0, prompt - cached) | st.just(prompt - cached))
    spoken = draw(st.integers(0, prompt - cached - written)) if audio else 0
    usage = Usage(
        prompt,
        cached,
        output,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written) | st.just(written)) if hour else 0,
        input_audio_tokens=spoken,
        output_audio_tokens=draw(st.integers(0, output)) if audio else 0,
        service_tier=draw(st.sampled_from([None, tier])),
    )
    assert price.cost(usage) <= case.cost


@given(st.data(), TOKEN_PRICES)
def test_no_usage_within_the_limits_costs_more_by_a_price_of_the_file(
    data: st.DataObject, price: TokenPrice
) -> None:
    costs_no_more(data.draw, price)


@given(st.data(), st.sampled_from(sorted(PUBLISHED)))
def test_no_usage_within_the_limits_costs_more_by_a_published_price(data: st.DataObject, name: str) -> None:
    costs_no_more(data.draw, published(*PUBLISHED[name]).price)
