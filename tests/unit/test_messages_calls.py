"""When a call's arguments are whole, in however many pieces they come."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.translation.calls import HeardCall, arguments_of

JSON = st.dictionaries(
    st.text('{}"\\ a', max_size=4), st.text('{}"\\ a', max_size=8) | st.lists(st.just({})), max_size=3
).map(json.dumps)


def heard(text: str, cuts: list[int]) -> HeardCall:
    call = HeardCall("a", "f", is_custom=False)
    ends = sorted(cut % (len(text) + 1) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        call.add(text[start:end])
    return call


@given(JSON | st.text('{}"\\ a:', max_size=12), st.lists(st.integers(0, 99), max_size=9), st.booleans())
@example('{"a": "\\\\"}', [8, 9], False)
@example('{"a": "\\""}', [8], True)
def test_arguments_are_whole_when_they_are_an_object(text: str, cuts: list[int], is_cut: bool) -> None:
    if is_cut:
        text = text[:-1]
    call = heard(text, cuts)
    assert call.text == text
    assert call.is_whole == (arguments_of(text) is not None)


def test_what_a_custom_tool_is_given_is_never_known_to_be_whole() -> None:
    call = HeardCall("a", "sh", is_custom=True)
    call.add("{}")
    assert not call.is_whole
