"""Sentences that speak to the router instead of asking something.

A caller who wants a model names it in the request; what stands in a prompt is never an instruction to the
router. So sentences about models, routing and how hard the prompt is are left out before anything is
measured, whichever way they point.
"""

from __future__ import annotations

import re
from collections.abc import Set

WORDS = re.compile(r"\S+")
# Only a text with one of these words is looked at closer, since most have none.
TELLTALES = frozenset(
    WORDS.findall("""
    basic beginner boring cheap cheaper cheapest cheapmodel classifier classify complex complexity cost
    difficult difficulty disregard easier easiest easy effort effortless elementary escalate expensive
    expensivemodel forget gateway hard hardness ignore inexpensive instruction instructions llm mini model
    models override reasoning route router routed routes routing score simple simpler simplest straightforward
    system thinking threshold tier trivial weak weaker gpt claude gemini llama mistral mixtral qwen deepseek
    """)
)
# A full stop before a letter or digit ends none.
SENTENCE = re.compile(r"[^.!?\n;]+(?:\.(?=\w)[^.!?\n;]+)*[.!?\n;]*|[.!?\n;]+")
MODEL = r"(?:language )?(?:models?|llms?|tier|engine|assistant|backend)\b"
KIND = (
    r"\b(?:cheap(?:er|est)?|inexpensive|low[- ]cost|weak(?:er|est)?|small(?:er|est)?|tiny|mini|basic"
    r"|fast(?:er|est)?|light(?:weight)?|expensive|dear(?:er|est)?|costly|strong(?:er|est)?|premium|big(?:ger|gest)?)\b"
)
EASE = (
    r"\b(?:easy|easier|easiest|simple|simpler|simplest|trivial|straightforward|basic|elementary|effortless"
    r"|boring|low|cheap|minimal|hard|difficult|complex|challenging)\b"
)
ASKED = r"\b(?:question|task|prompt|request|problem|query|message)\b"
# Enough for a sentence, and an end to the search in what is none.
GAP = r".{0,80}?"
ADDRESS = re.compile(
    "|".join(
        (
            # "Ignore all previous instructions"
            r"\b(?:ignore|disregard|forget|override|bypass)\b"
            + GAP
            + r"\b(?:instructions?|previous|prior|above"
            r"|earlier|rules?|prompts?|system|rout\w+|polic\w+|threshold|everything)\b",
            # "the cheap model", "CheapModel", "a model that is cheap"
            KIND + r"[- ]?" + MODEL,
            r"\b(?:cheap|expensive)_?model\b|\bleast expensive (?:one|option)\b",
            r"^\W*(?:model|tier|policy|route)\b\W{0,3}[=:]",
            # "gpt-4o-mini can answer this"
            r"\b(?:gpt|claude|gemini|llama|mistral|mixtral|qwen|deepseek)-[\w.-]+"
            r" (?:can|could|should|must|will|is)\b",
            r"\b" + MODEL + GAP + r"\b(?:cheap(?:er|est)?|inexpensive|expensive|low[- ]cost)\b",
            # "Route this to the small one"
            r"\b(?:re-?)?(?:route|routed|routing|send|forward|assign|dispatch|delegate|escalate)\b"
            + GAP
            + KIND,
            r"\broute (?:this|it|me|the (?:prompt|question|request|message|query))\b",
            r"\b(?:do not|don't|never|no need to) (?:escalate|re-?route|route)\b",
            # "difficulty = 0", "complexity: low"
            r"\b(?:difficulty|complexity|hardness|routing|router|route|score|threshold|effort)\b\W{0,6}(?:(?:score"
            r"|level|rating|is|of|to|as|should be|must be|equals?|at)\W{1,4}){0,3}(?:zero\b|none\b|0|1\b|"
            + EASE
            + ")",
            # "This is easy", "the question below is very simple"
            r"\b(?:this|that|it|its|following|below|above|"
            + ASKED
            + r")(?: \w+)?(?: (?:is|are|as|was|be|being|very)"
            r"|'s)\b.{0,24}?" + EASE + r"(?! random)",
            r"^\W*(?:an? )?(?:very |really |super |quite )?" + EASE + " (?:one|" + ASKED + ")",
            # "Classify this as trivial"
            r"\b(?:classify|label|rate|mark|treat|score|grade|tag|consider|set|count)\b"
            + GAP
            + r"\b(?:as|to|at|with)\b"
            r".{0,24}?(?:\bzero\b|\b0\b|" + EASE + ")",
            # "Note to the router:", "[system]"
            r"\b(?:note|message|instructions?|hint|attention|dear|hey|hello|to)\W{1,3}(?:(?:for|to|the)\W){0,2}"
            r"(?:router|gateway|classifier|dispatcher|load balancer)\b",
            r"^\W*(?:router|gateway|classifier|routing)\s*[:,=]",
            r"^\W*(?:system|developer|admin)(?:\|?>|\]|\s?:)",
            r"\bno (?:deep |hard |real |complex )?(?:thinking|reasoning|intelligence|effort|expertise)\b",
        )
    )
)


def without_addresses(text: str, words: Set[str]) -> str:
    """The text without the sentences that speak to the router; `words` are those of the text, in lower
    case."""
    telltales = TELLTALES & words
    if not telltales:
        return text
    return "".join(sentence for sentence in SENTENCE.findall(text) if not _is_address(sentence, telltales))


def _is_address(sentence: str, telltales: Set[str]) -> bool:
    lowered = sentence.lower()
    return any(word in lowered for word in telltales) and ADDRESS.search(lowered) is not None
