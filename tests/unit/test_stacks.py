"""Sampled stacks: whose CPU it was, and the picture of it."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.benchmarks.stacks import flame_graph, hottest, layer_of, parsed, shares

RAW = """\
run (gevent/hub.py:10);handle (/repo/gateway/worker.py:5);serve (/repo/gateway/serve.py:20);send (requests/adapters.py:3) 50
run (gevent/hub.py:10);handle (/repo/gateway/worker.py:5);serve (/repo/gateway/serve.py:21);loads (json/decoder.py:7) 30
run (gevent/hub.py:10);handle (/repo/gateway/worker.py:6);serve (/repo/gateway/serve.py:21);loads (json/decoder.py:9) 10
run (gevent/hub.py:10);poll (/home/x/lib/python3.11/site-packages/gevent/loop.py:4) 10
run (threading.py:8);acquire_with_timeout (gevent/_threading.py:3) 70
"""  # noqa: E501
STACKS = parsed(RAW, "/repo")


def test_stacks_that_differ_in_lines_alone_are_one_and_waits_of_threads_are_none() -> None:
    assert sorted(STACKS.values()) == [10, 40, 50]


def test_files_are_told_as_below_their_package() -> None:
    files = {frame.partition(" ")[2] for stack in STACKS for frame in stack}
    assert "(gateway/serve.py)" in files
    assert "(gevent/loop.py)" in files
    assert not any("/repo" in file or "/home" in file for file in files)


def test_what_a_layer_calls_of_the_standard_library_is_its_own() -> None:
    assert layer_of(
        ("handle (gateway/worker.py)", "serve (gateway/serve.py)", "loads (json/decoder.py)")
    ) == ("own path")
    assert layer_of(
        ("serve (gateway/serve.py)", "emit (logging/__init__.py)", "dumps (json/encoder.py)")
    ) == ("log")
    assert layer_of(("wait (gevent/hub.py)",)) == "event loop"


def test_the_shares_are_those_of_the_samples() -> None:
    assert shares(STACKS) == {"upstream client": 0.5, "own path": 0.4, "event loop": 0.1}
    assert hottest(STACKS, 1) == [("send (requests/adapters.py)", 0.5)]


def test_the_flame_graph_is_as_wide_as_the_samples_and_tells_the_shares_in_words() -> None:
    root = ElementTree.fromstring(flame_graph(STACKS, "Where it goes"))  # noqa: S314 - our own
    assert "upstream client 50%" in root.attrib["aria-label"]
    widths = {
        group[0].text: float(group[1].attrib["width"]) for group in root.iter("{http://www.w3.org/2000/svg}g")
    }
    assert widths["serve (gateway/serve.py), 90.0%"] == 1080
    assert widths["loads (json/decoder.py), 40.0%"] == 480
    assert "run (gevent/hub.py), 100.0%" not in widths
