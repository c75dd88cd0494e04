"""Answers out of bytes, however the bytes are cut and however the provider frames them."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http_answer import MOST_BYTES_WITHOUT_CONTENT, BadAnswer, HttpAnswer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TWO = OK + b"Content-Length: 2\r\n\r\nab"

# Answers with the content "ab" that end by themselves, and whether their connection can serve again.
WHOLE = {
    "length": (TWO, True),
    "chunks": (CHUNKED + b"1\r\na\r\n1;extension=x\r\nb\r\n0\r\n\r\n", True),
    "padded chunks": (CHUNKED + b"2  \r\nab\r\n0\r\n\r\n", True),
    "trailers": (CHUNKED + b"2\r\nab\r\n0\r\nX-Trailer: 1\r\n\r\n", True),
    "length and chunks": (
        OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        True,
    ),
    "lines without CR": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab", True),
    "odd signs": (OK + b"X: \x01\x7f\xff\r\nContent-Length: 2\r\n\r\nab", True),
    "continued first": (b"HTTP/1.1 100 Continue\r\n\r\n" + TWO, True),
    "hints first": (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" * 2 + TWO, True),
    "to be closed": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", False),
    "HTTP/1.0 kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab", True),
    "offers an upgrade": (OK + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab", True),
}
# Those that last until the connection is closed.
UNTIL_CLOSED = {
    "nothing said": OK + b"\r\nab",
    "closing": OK + b"Connection: close\r\n\r\nab",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nab",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nab",
}
CUT_SHORT = {
    "nothing": b"",
    "status line": b"HTTP/1.1 200",
    "head": OK,
    "only continued": b"HTTP/1.1 100 Continue\r\n\r\n",
    "length": OK + b"Content-Length: 3\r\n\r\nab",
    "no chunk": CHUNKED,
    "chunk": CHUNKED + b"3\r\nab",
    "no last chunk": CHUNKED + b"2\r\nab\r\n",
}
NONSENSE = {
    "other protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "length": OK + b"Content-Length: -2\r\n\r\nab",
    "huge length": OK + b"Content-Length: 99999999999999999999\r\n\r\nab",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "chunk size": CHUNKED + b"zz\r\n",
    "huge chunk": CHUNKED + b"fffffffffffffffff\r\nab",
    "chunk without end": CHUNKED + b"2\r\nabc\r\n",
    "another protocol from now on": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
    b"Connection: upgrade\r\n\r\nab",
}
ENDLESS = {
    "header": (OK, b"X: " + b"x" * 1000, b"x" * 1000),
    "headers": (OK, b"", b"X: x\r\n" * 100),
    "continued": (b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    "chunk extension": (CHUNKED + b"2;", b"x=", b"x" * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"", b"X: x\r\n" * 100),
}


def fed(*pieces: bytes) -> HttpAnswer:
    answer = HttpAnswer()
    for piece in pieces:
        answer.feed(piece)
    return answer


def all_of(answer: HttpAnswer) -> bytes:
    return b"".join(iter(lambda: answer.take(1), b""))


@pytest.mark.parametrize(("sent", "keeps"), WHOLE.values(), ids=WHOLE)
def test_an_answer_ends_where_it_says(sent: bytes, keeps: bool) -> None:
    for answer in (fed(sent), fed(*[sent[place : place + 1] for place in range(len(sent))])):
        assert (answer.status, answer.is_whole, answer.keeps_connection) == (200, True, keeps)
        assert all_of(answer) == b"ab"


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 200), max_size=4))
def test_it_does_not_matter_how_the_bytes_are_cut(name: str, places: list[int]) -> None:
    sent, keeps = WHOLE[name]
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    cut, whole = fed(*[sent[start:end] for start, end in pairwise(edges) if end > start]), fed(sent)
    assert (cut.status, cut.reason, cut.headers) == (whole.status, whole.reason, whole.headers)
    assert (all_of(cut), cut.keeps_connection) == (b"ab", keeps)


@pytest.mark.parametrize("sent", UNTIL_CLOSED.values(), ids=UNTIL_CLOSED)
def test_one_that_says_nothing_of_its_end_ends_with_the_connection(sent: bytes) -> None:
    answer = fed(sent)
    assert not answer.is_whole
    answer.end()
    assert (answer.is_whole, answer.keeps_connection, all_of(answer)) == (True, False, b"ab")


@pytest.mark.parametrize("sent", CUT_SHORT.values(), ids=CUT_SHORT)
def test_one_that_breaks_off_is_none(sent: bytes) -> None:
    answer = fed(sent)
    assert not answer.is_whole
    with pytest.raises(BadAnswer):
        answer.end()


@pytest.mark.parametrize("sent", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_none(sent: bytes) -> None:
    with pytest.raises(BadAnswer):
        fed(sent)


@pytest.mark.parametrize(
    "behind", [b"x", b"HTTP/1.1 ", TWO, OK + b"\r\ncd", b"\x00"], ids=["x", "line", "answer", "open", "nul"]
)
@pytest.mark.parametrize("answer", ["length", "chunks", "to be closed"])
def test_what_stands_behind_an_answer_is_no_part_of_it_and_spoils_its_connection(
    answer: str, behind: bytes
) -> None:
    found = fed(WHOLE[answer][0] + behind)
    assert (found.status, all_of(found), found.keeps_connection) == (200, b"ab", False)
    assert len(found.headers) <= 2


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_have_no_content_whatever_length_they_state(status: bytes) -> None:
    answer = fed(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")
    assert (answer.status, answer.is_whole, answer.keeps_connection) == (int(status[:3]), True, False)


@pytest.mark.parametrize(("begin", "then", "again"), ENDLESS.values(), ids=ENDLESS)
def test_what_is_no_content_has_its_bounds(begin: bytes, then: bytes, again: bytes) -> None:
    with pytest.raises(BadAnswer):
        fed(begin, then, *[again] * (2 * MOST_BYTES_WITHOUT_CONTENT // len(again)))


def test_content_has_no_bounds_here_be_it_in_the_smallest_chunks() -> None:
    answer = fed(CHUNKED)
    for _ in range(MOST_BYTES_WITHOUT_CONTENT // 400):
        answer.feed(b"1\r\na\r\n" * 100)
        assert answer.take(65536) == b"a" * 100


def test_headers_and_reason_are_told_as_they_came_and_nothing_of_interim_answers_or_trailers() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\n\r\n"
    head = b"HTTP/1.1 200 Very Well\r\nx-One: 1\r\nTransfer-Encoding: chunked\r\nx-one:  2\r\n\r\n"
    answer = fed(hints + head + b"0\r\nX-Trailer: 1\r\n\r\n")
    assert answer.reason == "Very Well"
    assert answer.headers == [("x-One", "1"), ("Transfer-Encoding", "chunked"), ("x-one", "2")]
    assert answer.header("x-one") == "1"
    assert answer.header("x-hint") == ""


def test_content_is_given_in_amounts() -> None:
    answer = fed(CHUNKED + b"3\r\nabc\r\n", b"3\r\ndef\r\n")
    assert [answer.take(2), answer.take(3), answer.take(9), answer.take(9)] == [b"ab", b"cde", b"f", b""]


def test_an_answer_that_is_over_needs_no_garbage_collector() -> None:
    gc.disable()
    try:
        whole, let_go = fed(TWO), fed(CHUNKED)
        let_go.let_go()
        kept = [weakref.ref(whole), weakref.ref(let_go)]
        del whole, let_go
        assert [reference() for reference in kept] == [None, None]
    finally:
        gc.enable()
