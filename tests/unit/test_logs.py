"""The lines of the log."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import time
from typing import Any

import pytest

from gateway.logs import REQUESTS, LineHandler, log_request, logging_config


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    before = logging.root.handlers[:], logging.root.level
    config = logging_config("info")
    formatter = logging.config.DictConfigurator(config).configure_formatter(config["formatters"]["json"])

    def written(name: str, text: str, arguments: Any, extra: Any = None) -> dict[str, Any]:
        logger = logging.getLogger(name)
        record = logger.makeRecord(name, logging.INFO, "", 0, text, arguments, None, extra=extra)
        line: dict[str, Any] = json.loads(formatter.format(record))
        return line

    assert (logging.root.handlers[:], logging.root.level) == before
    return written


def test_the_line_of_a_request_has_its_fields_behind_those_of_any_line(lines: Any) -> None:
    request = lines(
        REQUESTS, "request", ({"status": 200, "reason": "100 % of it", "attempts": [{"a": None}]},)
    )
    other = lines("gateway.x", "%s models", (3,), extra={"status": 200})
    assert {"status", "reason", "attempts"} < request.keys()
    assert request["message"] == "request"
    assert request["attempts"] == [{"a": None}]
    assert other["message"] == "3 models"
    assert other["status"] == 200
    names = ["time", "level", "logger", "process", "message"]
    assert list(request)[:5] == names
    assert sorted(names) == sorted(other.keys() - {"status"})
    assert len(request["time"]) == len(other["time"])


@pytest.mark.parametrize("name", [REQUESTS, "gateway.x"])
def test_half_a_surrogate_pair_keeps_no_line_from_being_written(lines: Any, name: str) -> None:
    fields = {"error_message": "'\ud800' is odd"}
    line = lines(name, "m", (fields,)) if name == REQUESTS else lines(name, "m", (), extra=fields)
    assert line["error_message"] == fields["error_message"]


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_a_request_is_logged_as_by_any_logger(lines: Any, level: int) -> None:
    stream, fields = io.StringIO(), {"status": 200, "cause": None}
    config = logging_config("info")
    handler, logger = LineHandler(stream), logging.getLogger(REQUESTS)
    handler.setFormatter(
        logging.config.DictConfigurator(config).configure_formatter(config["formatters"]["json"])
    )
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        started = time.time()
        log_request(level, fields)
        logger.log(level, "request", fields)
        log_request(logging.DEBUG, fields)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    ours, usual = (json.loads(line) for line in stream.getvalue().splitlines())
    assert list(ours) == list(usual)
    assert (ours["process"], ours["level"]) == (os.getpid(), logging.getLevelName(level))
    written = time.mktime(time.strptime(ours.pop("time"), "%Y-%m-%dT%H:%M:%S%z"))
    assert int(started) <= written <= time.time()
    assert usual.pop("time")
    assert ours == usual
