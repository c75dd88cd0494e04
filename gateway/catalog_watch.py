"""The catalog in use, exchanged as a whole when the models file has changed.

Each worker looks at the file itself. A file is read once it has stayed the same between two looks, so that
one that is still being written is never taken for a smaller one.
"""

from __future__ import annotations

import logging
import os
from typing import TypeAlias

import gevent

from gateway.catalog import Catalog
from gateway.config import InvalidSetting, Settings
from gateway.models_file import parse_catalog, read_models_file

LOOK_EVERY_SECONDS = 0.5
Stamp: TypeAlias = "tuple[int, int, int] | None"

logger = logging.getLogger(__name__)


class CatalogWatch:
    """`current` is the newest good catalog. A request takes it once and keeps to it.

    :raises InvalidSetting: when there is no good one to begin with
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = self._tried = self._stamp()
        self._text = read_models_file(settings)
        self.current: Catalog = parse_catalog(self._text, settings)

    def start(self) -> None:
        """Look at the file from now on, in a greenlet of this worker."""
        gevent.spawn(self._run)

    def look(self) -> None:
        """Take the file's catalog if it has changed and stands still; one that is not good is logged, once,
        and the one in use stays."""
        before, self._seen = self._seen, self._stamp()
        if self._seen != before or self._seen == self._tried:
            return
        self._tried = self._seen
        try:
            text = read_models_file(self._settings)
            if text == self._text:
                return
            catalog = parse_catalog(text, self._settings)
        except InvalidSetting as error:
            logger.error("the changed models file is refused; the models stay as they were: %s", error)
            return
        self._text, self.current = text, catalog
        log_catalog(catalog, "the models file has changed")

    def _stamp(self) -> Stamp:
        try:
            found = os.stat(self._settings.models_file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _run(self) -> None:
        while True:
            gevent.sleep(LOOK_EVERY_SECONDS)
            try:
                self.look()
            except Exception:
                logger.exception("looking at the models file failed")


def log_catalog(catalog: Catalog, occasion: str) -> None:
    """One line for each model, without its key."""
    for model in catalog:
        logger.info("%s", occasion, extra=model.row())
