"""From a provider's `usage` to disjoint classes of tokens. What they cost: `prices.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard

from gateway.apis import Api

MOST_TOKENS = 10**12  # no call has more; a larger figure is nonsense
MOST_USD = 10**6
OTHER_TIERS = ("flex", "priority", "fast")  # of OpenAI and Google; the default has the usual price
CHARACTERS_PER_TOKEN = 4
# What a chat template adds, from OpenAI's cookbook "How to count tokens with tiktoken":
TOKENS_PER_MESSAGE = 3
TOKENS_PER_REPLY = 3
# OpenAI's flat charge for an image of low detail; what others take depends on its size:
TOKENS_PER_IMAGE = 85


@dataclass(slots=True)
class Usage:
    """Tokens of one call.

    `input_tokens` counts the whole prompt; `cached_input_tokens` is the part of it that the provider read
    from its cache, `cache_write_tokens` the part that it wrote there (`cache_write_1h_tokens` of it to stay
    for an hour), `uncached_input_tokens` the rest. `output_tokens` counts all that was generated,
    `reasoning_tokens` is the part of it that the client does not see. `web_searches` are those that the
    provider's own tool made and charges for. `input_audio_tokens`, `cached_audio_tokens` and
    `output_audio_tokens` are the parts that are audio, `service_tier` is the one of another price that the
    provider served the call in. `stated_cost` is the provider's own figure in USD, where it
    gives one. `estimated` says that the provider gave no figures and the tokens were counted from the
    characters sent and received.
    """

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cache_write_tokens: int = 0
    stated_cost: Decimal | None = None
    estimated: bool = False
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    output_audio_tokens: int = 0
    service_tier: str | None = None

    @property
    def uncached_input_tokens(self) -> int:
        return self.input_tokens - self.cached_input_tokens - self.cache_write_tokens


NO_USAGE = Usage(0, 0, 0)


def usage_stated(api: Api, answer: Mapping[str, Any]) -> Usage | None:
    """The usage that an answer or chunk of `api` states, or None where it states none that makes sense."""
    if api is Api.MESSAGES:
        return _usage_of_message(_object(answer.get("usage")))
    if api is Api.RESPONSES:
        return _usage_of_response(_object(answer.get("usage")), _other_tier(answer))
    return _usage_of_completion(answer)


def _other_tier(answer: Mapping[str, Any]) -> str | None:
    tier = answer.get("service_tier")
    return tier if isinstance(tier, str) and tier in OTHER_TIERS else None


def _usage_of_completion(answer: Mapping[str, Any]) -> Usage | None:
    """Of a chat completion, a legacy one or embeddings.

    Providers differ in where they say it and in what their figures include:

    - OpenAI, Mistral, vLLM, Ollama, Azure: `usage`; cached tokens within `prompt_tokens`, reasoning within
      `completion_tokens`
    - DeepSeek: `prompt_cache_hit_tokens`; Moonshot: `cached_tokens` beside `prompt_tokens`
    - Groq: `x_groq.usage` in the last chunk; Moonshot: `choices[0].usage` there
    - xAI, Gemini: reasoning beside `completion_tokens`, told by a `total_tokens` larger than their sum
    - OpenRouter: `cost` in USD, with one's own key at the provider that provider's charge apart;
      Perplexity: `cost.total_cost`
    - OpenRouter and LiteLLM: tokens written to a cache
    - Voyage, of embeddings: `total_tokens` alone
    """
    usage = _usage_object(answer)
    if not usage:
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if "prompt_tokens" not in usage and "completion_tokens" not in usage:
        prompt = usage.get("total_tokens")
    details = _object(usage.get("prompt_tokens_details"))
    cached = _first_given(
        details.get("cached_tokens"),
        usage.get("prompt_cache_hit_tokens"),
        usage.get("cached_tokens"),
        usage.get("cache_read_input_tokens"),
    )
    written = _first_given(
        details.get("cache_write_tokens"),
        details.get("cache_creation_tokens"),
        usage.get("cache_creation_input_tokens"),
    )
    if not (_is_count(prompt) and _is_count(completion) and _is_count(cached) and _is_count(written)):
        return None
    cached = min(cached, prompt)
    total = usage.get("total_tokens")
    beside = max(0, total - prompt - completion) if _is_count(total) else 0
    output_details = _object(usage.get("completion_tokens_details"))
    reasoning = _count(output_details.get("reasoning_tokens"))
    audio = min(_count(details.get("audio_tokens")), prompt)
    return Usage(
        input_tokens=prompt,
        cached_input_tokens=cached,
        output_tokens=completion + beside,
        input_audio_tokens=audio,
        # What was read from the cache is text as far as it can be.
        cached_audio_tokens=max(0, cached - (prompt - audio)),
        output_audio_tokens=min(_count(output_details.get("audio_tokens")), completion),
        service_tier=_other_tier(answer),
        cache_write_tokens=min(written, prompt - cached),
        stated_cost=_stated_cost(usage),
        reasoning_tokens=min(max(reasoning, beside), completion + beside),
    )


def _usage_of_response(usage: Mapping[str, Any], service_tier: str | None) -> Usage | None:
    """Of OpenAI's Responses: cached tokens within `input_tokens`, reasoning within `output_tokens`."""
    prompt, output = usage.get("input_tokens"), usage.get("output_tokens", 0)
    if not (_is_count(prompt) and _is_count(output)):
        return None
    details = _object(usage.get("input_tokens_details"))
    cached = min(_count(details.get("cached_tokens")), prompt)
    reasoning = _count(_object(usage.get("output_tokens_details")).get("reasoning_tokens"))
    return Usage(
        input_tokens=prompt,
        cached_input_tokens=cached,
        output_tokens=output,
        cache_write_tokens=min(_count(details.get("cache_write_tokens")), prompt - cached),
        stated_cost=_stated_cost(usage),
        reasoning_tokens=min(reasoning, output),
        service_tier=service_tier,
    )


def _usage_of_message(usage: Mapping[str, Any]) -> Usage | None:
    """Of Anthropic's Messages: three disjoint classes of input; thinking within `output_tokens`."""
    uncached, output = usage.get("input_tokens"), usage.get("output_tokens", 0)
    if not (_is_count(uncached) and _is_count(output)):
        return None
    cached = _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    for_an_hour = _count(_object(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    return Usage(
        input_tokens=uncached + cached + written,
        cached_input_tokens=cached,
        output_tokens=output,
        cache_write_tokens=written,
        stated_cost=_stated_cost(usage),
        cache_write_1h_tokens=min(for_an_hour, written),
        web_searches=_count(_object(usage.get("server_tool_use")).get("web_search_requests")),
    )


def usage_estimated(prompt_tokens: int, output_characters: int, cached_tokens: int = 0) -> Usage:
    """The likely usage of a call whose provider stated none."""
    return Usage(prompt_tokens, cached_tokens, estimated_tokens(output_characters), estimated=True)


def estimated_tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _usage_object(answer: Mapping[str, Any]) -> dict[str, Any]:
    usage = answer.get("usage")
    if usage and isinstance(usage, dict):
        return usage
    if "x_groq" in answer and (usage := _object(_object(answer["x_groq"]).get("usage"))):
        return usage
    choices = answer.get("choices")
    first = choices[0] if choices and isinstance(choices, list) else None
    return _object(first.get("usage")) if isinstance(first, dict) else {}


def _stated_cost(usage: Mapping[str, Any]) -> Decimal | None:
    stated = usage.get("cost")
    if stated is None:
        return None
    cost = _money(stated)
    if cost is None:
        cost = _money(_object(stated).get("total_cost"))
    if cost is not None and usage.get("is_byok") is True:
        cost += _money(_object(usage.get("cost_details")).get("upstream_inference_cost")) or 0
    return cost


def _money(value: object) -> Decimal | None:
    """A JSON number as the decimal that it was written as."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_USD:
        return None
    return Decimal(str(value))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_given(*values: object) -> object:
    for value in values:
        if value is not None:
            return value
    return 0


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_TOKENS


def _count(value: object) -> int:
    """A count that may be missing, and counts as none where it makes no sense."""
    return value if _is_count(value) else 0
