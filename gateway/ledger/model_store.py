"""The trained models in Redis: the one place that changes or reads them.

All stand in one hash: `candidate` and the time of its training, `live`, `previous` (empty for the model that
comes with the gateway) and `version`, the number of the last change of what is live, by which the gateways
learn of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script
from gateway.routing.trained_model import TrainedModel, UnreadableModel


@dataclass(frozen=True)
class Models:
    """What there is; `previous` says whether there is something to go back to. `version` is 0 where nothing
    has ever been promoted."""

    candidate: TrainedModel | None
    live: TrainedModel | None
    has_previous: bool
    version: int


class ModelStore:
    """Every method raises `LedgerUnavailable` where Redis cannot be asked, or has what cannot be read; a
    change may have happened then."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis = client
        self._key = names.trained_models
        self._promote = Script(client, "promote_model")
        self._roll_back = Script(client, "roll_back_model")

    def put_candidate(self, model: TrainedModel) -> None:
        """Keep a model as the one that may be promoted."""
        with translating_errors():
            self._redis.hset(
                self._key, mapping={"candidate": model.to_json(), "candidate_version": model.version}
            )

    def models(self) -> Models:
        """All of them as they are now."""
        with translating_errors():
            found = self._redis.hmget(self._key, ["candidate", "live", "previous", "version"])
        candidate, live, previous, version = cast("list[str | None]", found)
        return Models(_read(candidate), _read(live), previous is not None, int(version or 0))

    def version(self) -> int:
        """The number of the last change of what is live; 0 where there has been none."""
        with translating_errors():
            return int(self._redis.hget(self._key, "version") or 0)

    def promote(self, candidate: TrainedModel, version: int) -> bool:
        """Put the candidate live. Whether it still was the candidate, and that version live."""
        with translating_errors():
            return bool(self._promote([self._key], [candidate.version, version]) == 1)

    def roll_back(self) -> bool:
        """Put live again what was before the last promotion. Whether there was one."""
        with translating_errors():
            return bool(self._roll_back([self._key], []) == 1)


def _read(text: str | None) -> TrainedModel | None:
    try:
        return TrainedModel.from_json(text) if text else None
    except UnreadableModel as error:
        raise LedgerUnavailable("A trained model in Redis cannot be read.") from error
