"""Who gets text for Prometheus, and that both of the official parsers read it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from gateway.ledger.totals import ModelCounters, ModelTotals
from gateway.prometheus import JSON, OPENMETRICS, TEXT, Snapshot, exposition, wanted_media_type
from gateway.routing.share import HeldShare, Known, Recent

ODD_NAME = 'a "quoted" \\ name\nof two lines, é'
CHEAP = ModelCounters(3, 1, Decimal("0.000185000001"), 10, 20, 4)
NONE = ModelCounters(0, 0, Decimal(0), 0, 0, 0)
TOTALS = ModelTotals({"CheapModel": CHEAP, ODD_NAME: NONE}, Decimal("1.25"))
WELL = Snapshot(TOTALS, frozenset(), 0)
ALONE = Snapshot(None, frozenset({"ledger_unavailable"}), 4096)
CONTENT_TYPES = {
    TEXT: "text/plain; version=0.0.4; charset=utf-8",
    OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
at_each_format = pytest.mark.parametrize("media_type", CONTENT_TYPES)


def wanted(accept: str | None) -> str:
    return wanted_media_type(parse_accept_header(accept, MIMEAccept))


def families(snapshot: Snapshot, media_type: str) -> list[Metric]:
    text, _ = exposition(snapshot, media_type)
    parse = parse_openmetrics if media_type == OPENMETRICS else parse_text
    return list(parse(text.decode()))


def samples(snapshot: Snapshot, media_type: str) -> dict[tuple[str, ...], float]:
    """Every value by its name and the values of its labels, in the order of their names."""
    read = [sample for family in families(snapshot, media_type) for sample in family.samples]
    found = {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in read}
    assert len(found) == len(read), "a series is there twice"
    return found


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/*",
        "application/json, text/plain, */*",
        "application/json;q=0.5, text/plain;q=0.2",
        "text/plain;q=0.5, */*",
        "text/plain;q=0",
        "application/openmetrics-text;q=0, */*;q=0.1",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html",
        "nonsense",
        "/;;q=,",
    ],
)
def test_who_does_not_ask_for_text_gets_json(accept: str | None) -> None:
    assert wanted(accept) == JSON


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/plain", TEXT),
        ("TEXT/Plain; Version=0.0.4", TEXT),
        ("text/*", TEXT),
        ("text/plain, */*", TEXT),
        ("text/plain;version=0.0.4;q=0.2, */*;q=0.1", TEXT),
        ("application/json;q=0.1, text/plain;q=0.2", TEXT),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.2", TEXT),
        ("application/openmetrics-text;q=0, text/plain;q=0.2", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=7", OPENMETRICS),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.2", OPENMETRICS),
        # Prometheus 2.5, 2.30, 2.50 and 3:
        ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPENMETRICS,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OPENMETRICS,
        ),
        # The same, where a scrape's configuration allows only the old text:
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
            TEXT,
        ),
    ],
)
def test_who_would_rather_have_text_gets_it(accept: str, media_type: str) -> None:
    assert wanted(accept) == media_type


@at_each_format
def test_the_content_type_names_the_version_that_is_written(media_type: str) -> None:
    assert exposition(WELL, media_type)[1] == CONTENT_TYPES[media_type]


@at_each_format
def test_every_figure_is_read_back_as_it_was_counted(media_type: str) -> None:
    expected = {
        ("llm_gateway_requests_total", "CheapModel"): 3,
        ("llm_gateway_errors_total", "CheapModel"): 1,
        ("llm_gateway_cost_usd_total", "CheapModel"): 0.000185000001,
        ("llm_gateway_tokens_total", "CheapModel", "input"): 10,
        ("llm_gateway_tokens_total", "CheapModel", "output"): 20,
        ("llm_gateway_tokens_total", "CheapModel", "cached_input"): 4,
        ("llm_gateway_requests_total", ODD_NAME): 0,
        ("llm_gateway_errors_total", ODD_NAME): 0,
        ("llm_gateway_cost_usd_total", ODD_NAME): 0,
        ("llm_gateway_tokens_total", ODD_NAME, "input"): 0,
        ("llm_gateway_tokens_total", ODD_NAME, "output"): 0,
        ("llm_gateway_tokens_total", ODD_NAME, "cached_input"): 0,
        ("llm_gateway_baseline_cost_usd_total",): 1.25,
        ("llm_gateway_degraded", "ledger_unavailable"): 0,
        ("llm_gateway_degraded", "journal_unwritable"): 0,
        ("llm_gateway_journal_backlog_bytes",): 0,
    }
    assert samples(WELL, media_type) == expected


@at_each_format
def test_without_counters_there_are_the_gauges_alone(media_type: str) -> None:
    assert samples(ALONE, media_type) == {
        ("llm_gateway_degraded", "ledger_unavailable"): 1,
        ("llm_gateway_degraded", "journal_unwritable"): 0,
        ("llm_gateway_journal_backlog_bytes",): 4096,
    }


def test_a_reason_that_is_new_has_a_series_too() -> None:
    found = samples(Snapshot(None, frozenset({"journal_unwritable", "other"}), 0), TEXT)
    assert found["llm_gateway_degraded", "other"] == 1
    assert found["llm_gateway_degraded", "journal_unwritable"] == 1
    assert found["llm_gateway_degraded", "ledger_unavailable"] == 0


@at_each_format
def test_every_family_has_a_help_text_and_its_type(media_type: str) -> None:
    read = families(WELL, media_type)
    assert all(family.documentation for family in read)
    assert {family.name: family.type for family in read} == {
        "llm_gateway_requests": "counter",
        "llm_gateway_errors": "counter",
        "llm_gateway_cost_usd": "counter",
        "llm_gateway_tokens": "counter",
        "llm_gateway_baseline_cost_usd": "counter",
        "llm_gateway_degraded": "gauge",
        "llm_gateway_journal_backlog_bytes": "gauge",
    }
    for family in read:
        if family.type == "gauge":
            assert "the one worker that answered this scrape" in family.documentation
        else:
            assert "over all workers" in family.documentation


def test_openmetrics_names_the_units() -> None:
    assert {family.name: family.unit for family in families(WELL, OPENMETRICS) if family.unit} == {
        "llm_gateway_cost_usd": "usd",
        "llm_gateway_tokens": "tokens",
        "llm_gateway_baseline_cost_usd": "usd",
        "llm_gateway_journal_backlog_bytes": "bytes",
    }


@at_each_format
def test_nothing_of_a_scrape_reaches_the_registry_of_the_process(media_type: str) -> None:
    text, _ = exposition(WELL, media_type)
    assert b"python_info" not in text
    assert not [family for family in REGISTRY.collect() if family.name.startswith("llm_gateway")]


@at_each_format
def test_a_held_share_is_shown_with_its_target_and_its_line(media_type: str) -> None:
    share = HeldShare(0.2, 150)
    held = Snapshot(TOTALS, frozenset(), 0, {"prompt_length": share})
    before = samples(held, media_type)
    assert before["llm_gateway_routing_threshold", "prompt_length"] == 150
    assert ("llm_gateway_routing_share", "prompt_length") not in before, "nothing has been chosen"
    counts = dict.fromkeys(map(float, range(101, 201)), 1)
    share.learn(Known(100, 30, 0.0, Recent(counts, {}, now_expensive=30)))
    found = samples(held, media_type)
    assert found["llm_gateway_routing_share_target", "prompt_length"] == 0.2
    assert found["llm_gateway_routing_share", "prompt_length"] == 0.3
    assert found["llm_gateway_routing_threshold", "prompt_length"] == 181


@at_each_format
def test_without_a_held_share_there_are_no_series_of_it(media_type: str) -> None:
    assert not any(name.startswith("llm_gateway_routing") for name, *_ in samples(WELL, media_type))
