"""Logging as JSON, one line per event on standard output, for gunicorn and the gateway alike."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import orjson
from pythonjsonlogger.orjson import OrjsonFormatter

REQUESTS = "gateway.request"  # its records have their fields for arguments


class Lines(OrjsonFormatter):
    """`python-json-logger`'s, but for the one line of each request, which it would take three times as long
    for."""

    _second, _time = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        if record.name != REQUESTS or not isinstance(record.args, dict):
            return super().format(record)
        if int(record.created) != self._second:
            self._second = int(record.created)
            self._time = time.strftime(self.datefmt or "", self.converter(self._second))
        line = {
            "time": self._time,
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.msg,
            **record.args,
        }
        return self.jsonify_log_record(line)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            return orjson.dumps(log_data, default=str).decode()
        except orjson.JSONEncodeError:  # half a surrogate pair, as in a client's name for a field
            return json.dumps(log_data, default=str)


def logging_config(level: str) -> dict[str, Any]:
    """A `logging.config` dictionary; `level` is a level's name in any case."""
    # Nobody asks for the line of code that wrote a line, and finding it takes long (logging's manual).
    logging._srcfile = ""
    # Its debug lines repeat what a client sent of a head that broke off, keys included.
    gunicorn_level = "INFO" if level.upper() == "DEBUG" else level.upper()
    line = {
        "class": "logging.StreamHandler",
        "stream": "ext://sys.stdout",
        "formatter": "json",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": Lines,
                "fmt": "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
                "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                "datefmt": "%Y-%m-%dT%H:%M:%S%z",
            }
        },
        "handlers": {"line": line},
        "root": {"level": level.upper(), "handlers": ["line"]},
        "loggers": {
            "gunicorn.error": {"level": gunicorn_level, "handlers": ["line"], "propagate": False},
            "gunicorn.access": {"level": "ERROR", "handlers": ["line"], "propagate": False},
            # Its warnings repeat a provider's headers that cannot be read, among which our key may be.
            "urllib3.connection": {"level": "ERROR"},
        },
    }
