"""What is checked of an answer, and how strictly, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass

# In the order in which they are made, whatever the order of the setting: the first ones cost nothing.
CHECKS = ("structure", "probability", "agreement", "judge")


@dataclass(frozen=True)
class CascadeRules:
    """`checks` are some of `CHECKS`. Probabilities are those of an answer's tokens, 0 to 1: the geometric
    mean of all and the least of them, 0 for any. Past `max_seconds` since a request's start nothing dearer is
    asked. `judge_model` is the name of a model in the catalog."""

    checks: tuple[str, ...] = ("structure",)
    min_mean_probability: float = 0.8
    min_token_probability: float = 0.0
    max_seconds: float = 30.0
    judge_model: str | None = None
