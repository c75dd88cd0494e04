"""Holding the share of the dearest model at a target, whatever the traffic: the line is drawn where that
share of the recent scores lies above, and moved by what has come about since. Pure: no I/O.

What the dearest model has got more or less than its share is a debt, and the line gives way in proportion to
it, so that the debt stays within some requests for good, also where the scores only ever rise. All workers'
debts are one: a worker goes by the sum as it has last heard it, and at once by what it adds itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.routing.scores import LEAST, MOST, Line, RecentScores, bucket_of

# At this debt, in requests by the target, the line is at twice the target, or at nothing: less holds the
# share more exactly, more goes by the scores more exactly.
ROOM = 20.0
LEAST_ROOM = 3.0
# A debt that cannot be paid, as while a model is down, is not carried along for ever.
MOST_DEBT = 40.0
# So many choices of a worker are told to the others at once, and so much of the room in debts.
MANY = 25
MUCH = 0.4
# Over so many exchanges a worker's part in all requests is averaged.
SMOOTHED = 8
# The line is drawn anew when as many have come as are this part of those that it was drawn for.
NEW_PART = 1 / 8


@dataclass
class Seen:
    """What a worker has chosen, as increments: requests, those of them that went to the dearest model, what
    they add to the debt, and their scores by bucket."""

    requests: int = 0
    expensive: int = 0
    debt: float = 0.0
    scores: dict[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What all workers have chosen so far. The scores of the last two generations, with what went to the
    dearest model in each, are None where they were not asked for."""

    requests: int
    expensive: int
    debt: float
    recent: Recent | None = None


@dataclass(frozen=True)
class Recent:
    """Two generations of requests: what went to the dearest model, and the scores by bucket."""

    now: Mapping[float, int]
    before: Mapping[float, int]
    now_expensive: int = 0
    before_expensive: int = 0

    @property
    def share(self) -> float | None:
        """The share that the dearest model has had."""
        requests = sum(self.now.values()) + sum(self.before.values())
        return (self.now_expensive + self.before_expensive) / requests if requests else None


class HeldShare:
    """The share of one policy's choices in one worker. `target` may be changed at any time; `start` is the
    threshold before anything has been seen; `on_news` is called while there is something that the
    others should hear of at once."""

    def __init__(self, target: float, start: float) -> None:
        self.target = target
        self.on_news: Callable[[], None] | None = None
        self.known = Known(0, 0, 0.0)
        self.share: float | None = None  # that came about lately, over all workers
        self._start = start
        self._scores = RecentScores()
        self._line: Line | None = None
        self._requests_since_line = 0
        self._new, self._pending = Seen(), Seen()
        self._has_learnt = False
        self._damping = 1.0
        self._own_rate = self._all_rate = 0.0  # requests between two exchanges

    def threshold(self, score: float, chance: float) -> tuple[float, bool]:
        """See `Line.threshold`."""
        if self._line is not None:
            return self._line.threshold(self.level, score, chance)
        if 0 < self.target < 1:
            return self._start, False
        return (LEAST if self.target else MOST), False

    @property
    def usual_threshold(self) -> float:
        """Where the line is but for debts and chance."""
        return self._start if self._line is None else self._line.score_at(self.target)

    @property
    def target(self) -> float:
        return self._target

    @target.setter
    def target(self, target: float) -> None:
        self._target = target
        self._least = min(target, 1 - target)
        self._room = max(LEAST_ROOM, ROOM * target)

    @property
    def level(self) -> float:
        """The share of the recent scores that is to lie above the line now; 0 or less is nothing, 1 or more
        is everything."""
        debt = self.known.debt * self._damping + self._pending.debt + self._new.debt
        target = self._target
        least, room = self._least, self._room
        if -room <= debt <= room:
            return target + least * debt / room
        if not least:
            return target
        # Further out it goes all the way, be the target large or small.
        beyond = min(abs(debt) / room - 1, 1.0)
        if debt > 0:
            return target + least + (1 - target - least) * beyond
        return (target - least) * (1 - beyond)

    def saw(self, score: float, *, expensive: bool) -> None:
        """Take note of a choice."""
        bucket, new = bucket_of(score), self._new
        new.requests += 1
        new.expensive += expensive
        new.debt += self.target - expensive
        new.scores[bucket] = new.scores.get(bucket, 0) + 1
        self._scores.add(bucket)
        self._requests_since_line += 1
        if self._line is None or self._requests_since_line >= self._line.weight * NEW_PART:
            self._draw_line()
        if self.on_news is not None and (new.requests >= MANY or abs(new.debt) >= MUCH * self._room):
            self.on_news()

    @property
    def has_news(self) -> bool:
        """Whether there is something that the others have to be given."""
        return bool(self._new.requests or self._pending.requests)

    def pending(self) -> Seen:
        """What the others have to be given: the same as before as long as `learn` has not confirmed it."""
        if not self._pending.requests:
            self._pending, self._new = self._new, Seen()
        return self._pending

    def learn(self, known: Known) -> None:
        """Take over what all have chosen, what was pending included."""
        if self._has_learnt:  # else all that there ever was would be new
            self._note_rates(self._pending.requests, known.requests - self.known.requests)
        self._has_learnt = True
        self.known, self._pending = known, Seen()
        if known.recent is None:
            return
        self.share = known.recent.share
        self._scores = RecentScores(known.recent.now, known.recent.before)
        for bucket, count in self._new.scores.items():
            self._scores.add(bucket, count)
        self._draw_line()

    def _note_rates(self, own: int, all_: int) -> None:
        """Find out how much of the common debt to go by: each worker pays its own part, but where exchanges
        are so frequent that none pays much between two of them, all may go by the whole."""
        self._own_rate += (own - self._own_rate) / SMOOTHED
        self._all_rate += (max(own, all_) - self._all_rate) / SMOOTHED
        paid = 1 - math.exp(-self._own_rate * self._least / self._room)
        if paid <= 0 or self._all_rate <= 0:
            self._damping = 1.0
        else:
            self._damping = min(1.0, self._own_rate / self._all_rate / paid)

    def _draw_line(self) -> None:
        weights = self._scores.weights()
        if weights:
            self._line, self._requests_since_line = Line(weights), 0
