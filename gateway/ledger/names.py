"""The names of all keys in Redis, and the only place that makes them.

Below one prefix, so that a prefix in braces, such as `{gateway}`, puts them all into one slot of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.budget import Window


@dataclass(frozen=True)
class Names:
    """The keys below `prefix`."""

    prefix: str

    def total(self, name: str) -> str:
        """A counter over all models, such as `requests`."""
        return f"{self.prefix}:{name}"

    def model(self, model: str, name: str) -> str:
        """A counter of one model."""
        return f"{self.prefix}:model:{model}:{name}"

    def writer(self, writer: str) -> str:
        """The number of the last batch that a worker has given to the counters. It stands beside them, since
        there is one per worker, and nobody looks at it."""
        return f"{self.prefix}-writer:{writer}"

    @property
    def memory(self) -> str:
        """A name for what this Redis remembers, given once; it goes when the memory goes."""
        return f"{self.prefix}-memory"

    def budget(self, scope: str, window: Window) -> str:
        """Hash: what is `spent` and `held` of a budget in one run of its period, USD."""
        return f"{self.prefix}:budget:{scope}:{window.label}"

    def holds(self, scope: str, window: Window) -> str:
        """Sorted set: the holds on it, `CALL:USD` each, by the time at which they lapse."""
        return f"{self.prefix}:holds:{scope}:{window.label}"

    def void(self, call: str) -> str:
        """A mark that a reservation was given up, for one that Redis may still get."""
        return f"{self.prefix}:void:{call}"

    def rate(self, key_id: str) -> str:
        """Hash: a key's requests and tokens of each second of the last minute."""
        return f"{self.prefix}:rate:{key_id}"

    def key(self, key_id: str) -> str:
        """Hash: a virtual key, its secret only as a hash."""
        return f"{self.prefix}:key:{key_id}"

    def key_usage(self, key_id: str) -> str:
        """Hash: what a key has used so far, `requests`, `cost_usd` and tokens by class."""
        return f"{self.prefix}:key:{key_id}:usage"

    def owner(self, owner: str) -> str:
        """Hash: an owner's budget."""
        return f"{self.prefix}:owner:{owner}"

    @property
    def decisions(self) -> str:
        """Hash: the last choices of routing policies, as JSON by `KEY:REQUEST`, ids both. They stand beside
        the counters, which people look at."""
        return f"{self.prefix}-decisions"

    @property
    def decision_times(self) -> str:
        """Sorted set: their ids by the seconds since 1970 at which they were taken."""
        return f"{self.prefix}-decisions:times"

    @property
    def decision_scores(self) -> str:
        """Hash: how good the answers were, 0 to 1, where somebody has said so."""
        return f"{self.prefix}-decisions:scores"

    @property
    def trained_models(self) -> str:
        """Hash: the models of difficulty that were trained here, as JSON."""
        return f"{self.prefix}-router"

    def circuit(self, model: str) -> str:
        """That a model's circuit is open, as JSON; it goes some time after the model may be tried again."""
        return f"{self.prefix}:circuit:{model}"

    def probe(self, model: str) -> str:
        """The worker that tries the model while its circuit is half-open."""
        return f"{self.prefix}:circuit-probe:{model}"

    @property
    def circuits(self) -> str:
        """The channel on which workers tell each other of circuits that open and close."""
        return f"{self.prefix}:circuits"

    @property
    def keys(self) -> str:
        """Sorted set: the ids of all keys by the time of their creation."""
        return f"{self.prefix}:keys"

    @property
    def key_changes(self) -> str:
        """Sorted set: `key:ID` and `owner:NAME` by the number of the last change of each."""
        return f"{self.prefix}:keys:changes"

    @property
    def key_version(self) -> str:
        """The number of the last change of any key or owner."""
        return f"{self.prefix}:keys:version"

    def share(self, policy: str) -> str:
        """Hash: what a policy whose share is held has chosen: `requests`, `expensive` of them, `debt`."""
        return f"{self.prefix}:share:{policy}"

    def scores(self, policy: str, generation: str) -> str:
        """Hash: scores by bucket, and what went to the dearest model, of the generation `now` or `before`."""
        return f"{self.prefix}:share:{policy}:{generation}"

    def share_writer(self, policy: str, worker: str) -> str:
        """The number of the last choices of a worker that were added to a share."""
        return f"{self.prefix}-share-writer:{policy}:{worker}"

    @property
    def dollars(self) -> str:
        """Hash: what was spent when the `day` began, USD, and the `share` that holds the day's spend."""
        return f"{self.prefix}:share-by-dollars"
