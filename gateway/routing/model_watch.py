"""Has a worker's policy `difficulty` go by the model that is live, as soon as that changes."""

from __future__ import annotations

import logging

import gevent

from gateway.errors import LedgerUnavailable
from gateway.ledger.model_store import ModelStore
from gateway.routing.routing import Routing

POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


class ModelWatch:
    """While Redis is away, or what it has cannot be read, the last model goes on."""

    def __init__(self, store: ModelStore, routing: Routing) -> None:
        self._store = store
        self._routing = routing
        self._version = 0

    def start(self) -> None:
        """Follow the changes from now on, in a greenlet of this worker."""
        gevent.spawn(self._run)

    def poll(self) -> None:
        """Take over what is live, where that has changed.

        :raises LedgerUnavailable: then nothing has changed here
        """
        version = self._store.version()
        if version == self._version:
            return
        models = self._store.models()
        live = models.live
        self._routing.set_difficulty_model(None if live is None else live.whole.to_serve)
        self._version = models.version
        logger.info(
            "another model of difficulty is live",
            extra={"model": "bundled" if live is None else live.version},
        )

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except LedgerUnavailable:
                pass
            except Exception:
                logger.exception("following the live model of difficulty failed")
            gevent.sleep(POLL_SECONDS)
