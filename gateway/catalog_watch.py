"""The catalog in use, exchanged as a whole when the models file has changed.

Each worker looks at the file itself. A file is read once it has stayed the same between two looks, so that
one that is still being written is never taken for a smaller one.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TypeAlias

import gevent

from gateway.catalog import Catalog
from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.models_file import parse_catalog, read_models_file

LOOK_EVERY_SECONDS = 0.5
REFUSED = "the changed models file is refused; the models stay as they were"
Stamp: TypeAlias = "tuple[int, ...] | None"

logger = logging.getLogger(__name__)


class CatalogWatch:
    """`current` is the newest good catalog. A request takes it once and keeps to it.

    :raises InvalidSetting: when there is no good one to begin with
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = self._tried = self._stamp()
        self._text, self.current = self._begin()

    def _begin(self) -> tuple[bytes, Catalog]:
        try:
            text = read_models_file(self._settings)
            catalog = parse_catalog(text, self._settings)
        except InvalidSetting as error:
            # A worker that starts while the file is broken serves what the others serve.
            kept = self._settings.last_good_models_file
            if kept is None or not kept.is_file():
                raise
            logger.error("%s: %s", REFUSED, error)
            text = kept.read_bytes()
            return text, parse_catalog(text, self._settings)
        self._keep(text)
        return text, catalog

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
            logger.error("%s: %s", REFUSED, error)
            return
        self._text, self.current = text, catalog
        self._keep(text)
        log_catalog(catalog, "the models file has changed")

    def _keep(self, text: bytes) -> None:
        if self._settings.last_good_models_file is not None:
            keep_models_file(text, self._settings.last_good_models_file)

    def _stamp(self) -> Stamp:
        try:
            found = os.stat(self._settings.models_file)
        except OSError:
            return None
        # The time of the last change of any kind tells also of permissions, and of edits that keep the other.
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    def _run(self) -> None:
        while True:
            gevent.sleep(LOOK_EVERY_SECONDS)
            try:
                self.look()
            except Exception:
                logger.exception("looking at the models file failed")


def keep_models_file(text: bytes, place: Path) -> None:
    """Keep the text of a good models file for workers that start later; several may do so at once."""
    new = place.with_name(f"{os.getpid()}.toml")
    try:
        new.write_bytes(text)
        new.replace(place)
    except OSError as error:
        logger.warning("the models file could not be kept: %s", error)


def log_catalog(catalog: Catalog, occasion: str) -> None:
    """One line for each model, without its key."""
    for model in catalog:
        logger.info("%s", occasion, extra=model.row())
