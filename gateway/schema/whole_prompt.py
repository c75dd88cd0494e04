"""How many tokens a prompt can have by all the text in a body.

The estimate of `prompt_tokens` leaves out what is rare or small: names, refusals, thoughts, schemas of
answers, items that the gateway does not know. A client may put as much as it likes there, and the provider
charges it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.billing import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, estimated_tokens


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Fields of a body that no provider shows to its model.
NO_PROMPT = _names("""
    audio cache_control conversation function_call include logit_bias metadata modalities model
    previous_response_id prompt_cache_key reasoning safety_identifier service_tier stop stop_sequences
    stream_options thinking tool_choice user
""")
# Fields of a body, and of what is in it, whose keys and brackets are the API's and no part of the prompt.
# What stands elsewhere counts as it is written in JSON.
TEXTS = _names("""
    input instructions messages output_config output_format prediction prompt response_format suffix system
    text
""")
PARTS = _names("""
    audio cache_control citations content file format function function_call image_url images input_audio
    output source summary tool_calls
""")
# The API's own words and ids, as long as they are no longer than those can be.
WORDS = _names("""
    call_id detail effort file_id filename format id media_type phase role status tool_call_id tool_use_id
    ttl type verbosity
""")
WORD_CHARACTERS = 64
# Objects and their fields in which a provider expects encoded data or an address, and no text.
IMAGE_TYPES = _names("image image_url input_image")
MEDIA_TYPES = IMAGE_TYPES | _names("""
    audio audio_url base64 computer_screenshot document file image_generation_call input_audio input_file url
    video_url
""")
MEDIA = _names("""
    audio audio_url b64_json data file file_data file_url image_url input_audio result source url video_url
""")
# How an object of them looks, written compactly.
MEDIA_OBJECT = re.compile(f'"type":"(?:{"|".join(sorted(MEDIA_TYPES))})"')

# A value that is still to be looked into, and whether it stands where media are expected.
_Pending = list[tuple[Any, bool]]


def tokens_of_all_text(values: Mapping[str, Any]) -> int:
    """The likely tokens of a body's prompt with all text in it, wherever it stands, and with its images and
    messages: no fewer than those of its parts together, but for what each part is rounded up by. Encoded data
    and addresses of images, audio and files count nothing."""
    count = _Count()
    for name, value in values.items():
        if name in NO_PROMPT or not value:
            continue
        if isinstance(value, str):
            count.characters += len(value) if name in TEXTS or len(value) > WORD_CHARACTERS else 0
        elif isinstance(value, dict | list):
            if name in TEXTS:
                count.add_laid_out(value)
            else:
                count.add_written(value)
    return count.tokens + estimated_tokens(count.characters)


@dataclass
class _Count:
    characters: int = 0
    tokens: int = 0

    def add_laid_out(self, value: dict[str, Any] | list[Any]) -> None:
        """Count the texts, images and messages in what is laid out as an API has it."""
        pending: _Pending = [(value, False)]
        while pending:
            value, is_media = pending.pop()
            if isinstance(value, dict):
                self._add_object(value, _holds_media(value, is_media), pending)
            else:
                self._add_items(value, pending)

    def add_written(self, value: dict[str, Any] | list[Any]) -> None:
        """Count a value as it is written in JSON, but for media."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        self.characters += len(text)
        if MEDIA_OBJECT.search(text):
            self.characters -= _media_characters(value)

    def _add_object(self, members: dict[str, Any], is_media: bool, pending: _Pending) -> None:
        if "role" in members:
            self.tokens += TOKENS_PER_MESSAGE
        kind = members.get("type")
        if isinstance(kind, str) and kind in IMAGE_TYPES:
            self.tokens += TOKENS_PER_IMAGE
        for name, value in members.items():
            if len(name) > WORD_CHARACTERS:
                self.characters += len(name)
            if isinstance(value, str):
                is_word = name in WORDS and len(value) <= WORD_CHARACTERS
                if not is_word and not (is_media and name in MEDIA):
                    self.characters += len(value)
            elif value and isinstance(value, dict | list):
                if name in PARTS:
                    pending.append((value, is_media and name in MEDIA))
                else:
                    self.add_written(value)

    def _add_items(self, items: list[Any], pending: _Pending) -> None:
        kinds = set(map(type, items))
        if kinds == {int}:  # the ids of a prompt's tokens
            self.tokens += len(items)
        elif kinds == {str}:
            self.characters += sum(map(len, items))
        else:
            for item in items:
                if isinstance(item, str):
                    self.characters += len(item)
                elif isinstance(item, dict | list):
                    pending.append((item, False))
                else:
                    self.tokens += 1


def _holds_media(members: Mapping[str, Any], is_expected: bool) -> bool:
    """By its type, or else by its place."""
    kind = members.get("type")
    return kind in MEDIA_TYPES if isinstance(kind, str) else is_expected


def _media_characters(value: dict[str, Any] | list[Any]) -> int:
    """How many characters of a value are encoded data or addresses of media."""
    characters = 0
    pending: _Pending = [(value, False)]
    while pending:
        value, is_media = pending.pop()
        if isinstance(value, list):
            pending += [(item, False) for item in value if isinstance(item, dict | list)]
            continue
        is_media = _holds_media(value, is_media)
        for name, member in value.items():
            if isinstance(member, dict | list):
                pending.append((member, is_media and name in MEDIA))
            elif isinstance(member, str) and is_media and name in MEDIA:
                characters += len(member)
    return characters
