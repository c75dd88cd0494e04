"""What workers know of a share that they hold together: through a real Redis, and while it is away."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import connect
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script
from gateway.routing.scores import KEPT
from gateway.routing.share import MOST_DEBT, HeldShare
from gateway.routing.share_board import ShareBoard
from tests.support.proxy import tcp_proxy
from tests.support.share_traffic import START, Together, orders

POLICY = "prompt_length"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, 1.0) as client:
        yield client


@pytest.fixture
def names(client: redis.Redis) -> Iterator[Names]:
    names = Names(f"test-{uuid.uuid4().hex}")
    yield names
    for key in client.scan_iter(f"{names.prefix}*"):
        client.delete(key)


@pytest.fixture
def board_of(client: redis.Redis, names: Names) -> Callable[[HeldShare], ShareBoard]:
    """The board of a worker of its own; every exchange reads the scores of all."""

    def board_of(share: HeldShare) -> ShareBoard:
        return ShareBoard(client, names, {POLICY: share}, look_seconds=0)

    return board_of


BoardOf = Callable[[HeldShare], ShareBoard]


def test_redis_adds_up_what_all_workers_choose(client: redis.Redis, names: Names, board_of: BoardOf) -> None:
    together, shares = Together(), [HeldShare(0.2, START) for _ in range(3)]
    boards = [board_of(share) for share in shares]
    for number, score in enumerate(orders(0)["shuffled"].scores[: 3 * KEPT]):
        share, board = shares[number % 3], boards[number % 3]
        share.saw(score, expensive=number % 4 == 0)
        if number % 7 == 0:
            seen = share.pending()
            expected = together.add(seen)
            board.exchange()
            assert share.known.recent == expected.recent
            assert (share.known.requests, share.known.expensive) == (expected.requests, expected.expensive)
            assert share.known.debt == pytest.approx(expected.debt, abs=1e-4)
    for board in boards:
        board.exchange()
    assert client.hget(names.share(POLICY), "requests") == str(3 * KEPT)
    assert client.hget(names.share(POLICY), "expensive") == str(3 * KEPT // 4)


def test_the_workers_draw_one_line(board_of: BoardOf) -> None:
    one, other = HeldShare(0.2, START), HeldShare(0.2, START)
    boards = [board_of(one), board_of(other)]
    for score in range(1, 101):
        one.saw(score, expensive=score > 80)
    for board in (*boards, *boards):
        board.exchange()
    assert one.usual_threshold == other.usual_threshold == 81
    assert one.share == other.share == 0.2


def test_a_worker_that_starts_goes_by_what_the_others_have_seen(board_of: BoardOf) -> None:
    one, late = HeldShare(0.2, START), HeldShare(0.2, START)
    for score in range(1, 101):
        one.saw(score, expensive=score > 80)
    board_of(one).exchange()
    board_of(late).exchange()
    assert late.threshold(90, 0.5)[0] < 90
    assert late.threshold(70, 0.5)[0] > 70


def test_choices_whose_confirmation_is_lost_count_once(
    redis_url: str, client: redis.Redis, names: Names
) -> None:
    with tcp_proxy(redis_url) as proxy:
        share = HeldShare(0.2, START)
        board = ShareBoard(connect(proxy.url, 1.0), names, {POLICY: share}, look_seconds=0)
        board.exchange()
        share.saw(100, expensive=True)
        fault = proxy.drop_replies(1)
        with pytest.raises(LedgerUnavailable):
            board.exchange()
        assert fault.struck == 1
        share.saw(300, expensive=False)
        proxy.mend()
        board.exchange()
        board.exchange()
    assert client.hgetall(names.share(POLICY)) == {"requests": "2", "expensive": "1", "debt": "-0.6"}
    assert client.hgetall(names.scores(POLICY, "now")) == {
        "requests": "2", "expensive": "1", "100": "1", "300": "1"
    }  # fmt: skip


def test_what_was_chosen_while_redis_is_away_is_told_later(
    redis_url: str, client: redis.Redis, names: Names
) -> None:
    with tcp_proxy(redis_url) as proxy:
        share = HeldShare(0.2, START)
        board = ShareBoard(connect(proxy.url, 1.0), names, {POLICY: share}, look_seconds=0)
        proxy.cut()
        for score in range(1, 1001):
            share.saw(score, expensive=score % 5 == 0)
            if score % 100 == 0:
                with pytest.raises(LedgerUnavailable):
                    board.exchange()
        assert share.usual_threshold > 700, "it has forgotten what is long ago"
        proxy.mend()
        board.exchange()
        board.exchange()
    assert client.hmget(names.share(POLICY), "requests", "expensive") == ["1000", "200"]


def test_a_debt_that_cannot_be_paid_is_not_carried_along(
    client: redis.Redis, names: Names, board_of: BoardOf
) -> None:
    share = HeldShare(0.2, START)
    board = board_of(share)
    for expensive, bound in ((True, -MOST_DEBT), (False, MOST_DEBT)):
        for _ in range(1000):
            share.saw(100, expensive=expensive)
        board.exchange()
        assert share.known.debt == bound


def test_a_redis_that_has_forgotten_all_learns_anew(
    client: redis.Redis, names: Names, board_of: BoardOf
) -> None:
    share = HeldShare(0.2, START)
    board = board_of(share)
    for score in range(1, 101):
        share.saw(score, expensive=False)
    board.exchange()
    for key in client.scan_iter(f"{names.prefix}*"):
        client.delete(key)
    board.exchange()
    share.saw(500, expensive=True)
    board.exchange()
    assert client.hget(names.share(POLICY), "requests") == "1"


@pytest.mark.parametrize(
    ("generation", "field"), [(None, "requests"), (None, "debt"), ("now", "100"), ("before", "expensive")]
)
def test_a_hash_that_holds_no_numbers_is_a_redis_that_is_away(
    client: redis.Redis, names: Names, board_of: BoardOf, generation: str | None, field: str
) -> None:
    share = HeldShare(0.2, START)
    key = names.share(POLICY) if generation is None else names.scores(POLICY, generation)
    client.hset(key, field, "many")
    share.saw(100, expensive=True)
    with pytest.raises(LedgerUnavailable):
        board_of(share).exchange()
    assert share.has_news


def test_no_prompt_and_no_request_is_told(client: redis.Redis, names: Names, board_of: BoardOf) -> None:
    share = HeldShare(0.2, START)
    share.saw(123456, expensive=True)
    board_of(share).exchange()
    told = {key: client.hgetall(key) for key in client.scan_iter(f"{names.prefix}:*")}
    assert told == {
        names.share(POLICY): {"requests": "1", "expensive": "1", "debt": "-0.8"},
        names.scores(POLICY, "now"): {"requests": "1", "expensive": "1", "1.23e+05": "1"},
    }


def test_the_days_dollars_are_steered_once_whoever_asks(client: redis.Redis, names: Names) -> None:
    steer = Script(client, "steer_dollars")
    keys = [names.dollars, names.total("cost_usd")]
    client.set(keys[1], "12.5")
    day, later = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (0, 1))
    assert steer(keys, [day, "", "", 0.1])[:4] == [day, "12.5", "0.1", "0"]
    client.incrbyfloat(keys[1], 0.25)
    # Two workers that know the same step: the second one comes too late.
    assert steer(keys, [day, 0, "0.4", 0.1])[2:] == ["0.4", "1", "0.000", "12.75", "12.75"]
    assert steer(keys, [day, 0, "0.8", 0.1])[2:4] == ["0.4", "1"]
    assert steer(keys, [later, "", "", 0.1])[:4] == [later, "12.75", "0.4", "1"]
    # A worker whose clock is behind does not begin the day again.
    assert steer(keys, [day, "", "", 0.1])[:2] == [later, "12.75"]


def test_once_the_days_dollars_are_spent_the_share_is_none(client: redis.Redis, names: Names) -> None:
    share = HeldShare(0.1, START)
    board = ShareBoard(client, names, {POLICY: share}, Decimal("0.5"), look_seconds=0)
    client.set(names.total("cost_usd"), "7")
    board.exchange()
    assert share.target == 0.1
    client.incrbyfloat(names.total("cost_usd"), 0.5)
    board.exchange()
    assert share.target == 0
    assert board.day is not None
    assert board.day.today == Decimal("0.5")
