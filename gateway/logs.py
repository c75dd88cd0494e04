"""Logging as JSON, one line per event on standard output, for gunicorn and the gateway alike."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

import orjson
from pythonjsonlogger.orjson import OrjsonFormatter

REQUESTS = "gateway.request"  # its records have their fields for arguments

_requests = logging.getLogger(REQUESTS)


def log_request(level: int, fields: dict[str, Any]) -> None:
    """Log the one line of a request."""
    if _requests.isEnabledFor(level):
        _requests.handle(_RequestRecord(level, fields))


class _RequestRecord(logging.LogRecord):
    """A record that takes a quarter of the time, since it is the same each time but for this."""

    _same = logging.LogRecord(REQUESTS, logging.INFO, "", 0, "request", None, None).__dict__

    def __init__(self, level: int, fields: dict[str, Any]) -> None:
        self.__dict__.update(self._same)
        self.levelno, self.levelname = level, logging.getLevelName(level)
        self.args = fields
        self.created = now = time.time()
        self.msecs = now % 1 * 1000
        self.process = os.getpid()


class _NoLock:
    """What `logging` takes for a lock."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


class LineHandler(logging.StreamHandler[Any]):
    """Writes each record at once. Without a lock, which costs more than the writing under gevent: no greenlet
    comes between two steps of this, and what a thread writes goes to the stream as a whole line."""

    def createLock(self) -> None:
        self.lock = _NoLock()  # type: ignore[assignment]  # no lock, to each version of Python

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + "\n")
            self.stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


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
        "()": LineHandler,
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
