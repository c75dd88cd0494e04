"""Logging as JSON, one line per event on standard output, for gunicorn and the gateway alike."""

from __future__ import annotations

import logging
from typing import Any


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
                "()": "pythonjsonlogger.orjson.OrjsonFormatter",
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
