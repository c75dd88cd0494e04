"""Sentences that speak to the router instead of asking something.

A caller who wants a model names it in the request; what stands in a prompt is never an instruction to the
router. So sentences about models, routing and how hard the prompt is are left out before anything is measured,
whichever way they point.
"""

from __future__ import annotations

import re
from collections.abc import Set

# Only a text with one of these words is looked at closer, since most have none.
TELLTALES = frozenset(
    "basic beginner boring cheap cheaper cheapest cheapmodel classifier classify complexity cost difficult "
    "difficulty disregard easy effort effortless elementary escalate expensive expensivemodel forget gateway "
    "hard hardness ignore inexpensive instruction instructions llm mini model models override route router "
    "routed routes routing score simple straightforward system threshold tier trivial weak weaker".split()
)
SENTENCE = re.compile(r"[^.!?\n;]+[.!?\n;]*|[.!?\n;]+")
MODEL = r"(?:language )?(?:models?|llms?|tier|engine|assistant|backend|option)\b"
KIND = (
    r"(?:cheap(?:er|est)?|inexpensive|low[- ]cost|weak(?:er|est)?|small(?:er|est)?|tiny|mini|basic|light(?:weight)?"
    r"|fast(?:er|est)?|expensive|dear(?:er|est)?|strong(?:er|est)?|premium|costly|big(?:ger|gest)?|smart(?:er|est)?)"
)
EASE = (
    r"(?:easy|easier|easiest|simple|simpler|simplest|trivial|straightforward|basic|elementary|effortless"
    r"|boring|low|cheap|minimal|hard|difficult|complex|challenging)"
)
ADDRESS = re.compile(
    "|".join(
        (
            # "Ignore all previous instructions"
            r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,80}\b(?:instructions?|previous|prior|above|earlier"
            r"|rules?|prompts?|system|rout\w+|polic\w+|threshold|everything)\b",
            # "the cheap model", "CheapModel"
            rf"\b{KIND}[- ]?{MODEL}",
            r"\b(?:cheap|expensive)_?model\b",
            rf"\b{MODEL}.{{0,40}}\b(?:cheap(?:er|est)?|inexpensive|expensive|low[- ]cost)\b",
            # "Route this to the small one"
            rf"\b(?:re)?(?:route|routed|routing|send|forward|assign|dispatch|delegate|escalate)\b.{0,80}\b{KIND}\b",
            r"\b(?:do not|don't|never|no need to|please|must|should|always)\b.{0,20}\b(?:escalate|re-?route|route)\b",
            r"\broute (?:this|it|me|the (?:prompt|question|request|message|query))\b",
            # "difficulty = 0", "complexity: low"
            rf"\b(?:difficulty|complexity|hardness|routing|router|route|score|threshold|effort)\b\W{{0,6}}"
            rf"(?:(?:score|level|rating|is|of|to|as|should be|must be|equals?|at)\W{{1,4}}){{0,3}}"
            rf"(?:zero|none|0|1\b|{EASE})",
            # "This is easy", "the question below is very simple"
            r"\b(?:this|that|it|its|it's|question|task|prompt|request|problem|query|message|following|below|above)"
            rf"\b(?: \w+)?(?: (?:is|are|as|was|be|being|very)|'s)\b.{{0,24}}\b(?:{EASE})\b(?! \w+ (?:sample|of)\b)",
            rf"^\W*(?:an? )?(?:very |really |super |quite )?{EASE} (?:question|task|prompt|request|problem|query|one)\b",
            # "Classify this as trivial"
            rf"\b(?:classify|label|rate|mark|treat|score|grade|tag|consider|set|count)\b.{0,80}\b(?:as|to|at|with)\b"
            rf".{{0,24}}\b(?:{EASE}|zero|0)\b",
            # "Note to the router:", "[system]"
            r"\b(?:note|message|instructions?|hint|attention|dear|hey|hello|to)\W{1,3}(?:(?:for|to|the)\W){0,2}"
            r"(?:router|gateway|classifier|dispatcher|load balancer)\b",
            r"^\W*(?:router|gateway|classifier|routing)\s*[:,=]",
            r"^\W*(?:<\|?|\[)?/?(?:system|developer|admin)(?:\|?>|\]|\s?:)",
            r"\bno (?:deep |hard |real )?(?:thinking|reasoning|intelligence|effort|expertise) (?:is )?"
            r"(?:needed|required|necessary)\b",
        )
    ),
    re.IGNORECASE,
)


def without_addresses(text: str, words: Set[str]) -> str:
    """The text without the sentences that speak to the router; `words` are those of the text, in lower
    case."""
    if TELLTALES.isdisjoint(words):
        return text
    kept = [sentence for sentence in SENTENCE.findall(text) if not ADDRESS.search(sentence)]
    return "".join(kept)
