"""The arithmetic of the speed benchmark, and what it writes into the page."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.benchmarks.loads import Load, StreamLoad
from tests.benchmarks.measured import Slice, StreamSlice
from tests.benchmarks.page import replaced, table
from tests.benchmarks.pair import quartiles, verdict
from tests.benchmarks.speed_report import (
    BARE,
    DIRECT,
    FULL,
    PROXY,
    STOCK,
    Figures,
    aims,
    chart,
    ratio,
    speed_table,
    stream_table,
)


def slice_of(per_second: float, *, cpu_us: float = 100, p50_ms: float = 1, failed: int = 0) -> Slice:
    return Slice(Load(int(per_second * 2), 2.0, p50_ms, 3 * p50_ms, failed, 0), cpu_us, 70.0, 0.0)


def streams_of(first_ms: float, cpu_ms: float, whole: int = 500) -> StreamSlice:
    return StreamSlice(StreamLoad(500, whole, 0, 500 - whole, first_ms, 9, 1, 1, 1.5, 0.5), cpu_ms, 90.0)


def figures_of(name: str, *per_second: float, first_ms: float = 100, cpu_ms: float = 1) -> Figures:
    slices = [slice_of(each) for each in per_second]
    return Figures(
        name, {1: slices, 16: slices, 64: slices}, [streams_of(first_ms, cpu_ms)], [0.8, 0.9, 0.7], 60
    )


ALL = [
    figures_of(DIRECT, 30_000, 36_000),
    figures_of(PROXY, 20_000, 30_000),
    figures_of(BARE, 2000, 3300, first_ms=100, cpu_ms=1),
    figures_of(FULL, 1300, 1900),
    figures_of(STOCK, 400, 500, first_ms=400, cpu_ms=3),
]


def test_a_ratio_is_the_median_of_those_within_a_round_not_the_ratio_of_the_medians() -> None:
    one = [slice_of(each) for each in (100, 400, 900)]
    other = [slice_of(each) for each in (100, 100, 300)]
    assert ratio(one, other) == 3
    assert ratio(one, other, lambda each: each.cpu_us) == 1


def test_figures_of_different_numbers_of_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([slice_of(1)], [])


def test_the_table_has_medians_and_ratios_to_proxy_pass_and_stock() -> None:
    row = next(line for line in speed_table(ALL).splitlines() if line.startswith(f"| {BARE} |"))
    assert row.split(" | ")[1:7] == ["2,650", "2,650", "2,650", "10.5%", "5.8", "100"]


def test_the_table_does_without_what_was_not_measured() -> None:
    head, _, row = speed_table([ALL[2]]).splitlines()
    assert "stock" not in head
    assert row.split(" | ")[3:5] == ["2,650", "100"]


def test_the_table_of_streams_tells_the_worst_round() -> None:
    figures = figures_of(BARE, 1)
    figures.streams = [streams_of(100, 1), streams_of(300, 2, whole=499), streams_of(200, 3)]
    row = stream_table([figures]).splitlines()[-1]
    assert row == f"| {BARE} | 499 of 500 | 200 ms | 9 ms | 2.00 | 60 | 90 | 0.80 s |"
    assert figures.failures == 1


def test_a_target_that_streams_nothing_has_no_times_of_streams() -> None:
    figures = figures_of(BARE, 1)
    figures.streams = [streams_of(-1, 1, whole=0)]
    assert stream_table([figures]).splitlines()[-1].startswith(f"| {BARE} | 0 of 500 |  |  | 1.00 |")


def test_aims_are_met_or_not_as_measured() -> None:
    met = {aim.wanted: aim.is_met for aim in aims(ALL)}
    assert not met["bare: at least 6 times stock"]
    assert met["bare: at least 10% of proxy_pass"]
    assert met["full features: at least 60% of bare"]
    assert met["first chunk of 500 streams, p50: at most a third of stock"]
    assert met["CPU a stream: at most half of stock"]
    assert met["cold start below 1.5 s"]
    assert met["500 streams: all whole"]


def test_no_aim_is_told_of_what_was_not_measured() -> None:
    assert [aim.wanted for aim in aims([ALL[0], ALL[1]])] == []


def test_the_chart_shows_the_gateways_in_words_and_as_bars() -> None:
    root = ElementTree.fromstring(chart("The gateway beside others", ALL))  # noqa: S314 - our own
    assert f"{BARE} 2,650" in root.attrib["aria-label"]
    bars = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars[0] == pytest.approx(bars[2] * 2650 / 450, rel=0.01)


def test_a_block_of_the_page_is_replaced_and_all_else_stays() -> None:
    page = "# Title\n<!-- measured: a -->\nold\n<!-- end of a -->\ntext\n"
    page += "<!-- measured: b -->\n<!-- end of b -->\n"
    once = replaced(page, "a", "new")
    assert once == page.replace("old\n", "\nnew\n\n")
    assert replaced(once, "a", "new") == once
    assert replaced(once, "b", "x").startswith(once[: once.index("text")])


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for b"):
        replaced("<!-- measured: a -->\n<!-- end of a -->", "b", "new")


def test_a_table_is_markdown_with_numbers_to_the_right() -> None:
    assert table(["", "x"], [["a", "1"]]) == "|  | x |\n| --- | --: |\n| a | 1 |"


def test_a_pair_fails_only_where_median_and_lower_quartile_are_past_a_quarter() -> None:
    assert verdict([1.3, 1.31, 1.4, 1.5, 1.6]) is False
    assert verdict([1.0, 1.1, 1.3, 1.5, 1.6]) is True
    assert verdict([0.9, 1.0, 1.0, 1.1, 1.6]) is True
    assert quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
