"""The README's examples, so that they can be run as they stand."""

from __future__ import annotations

import re

from tests.support.processes import ROOT


def examples(heading: str, language: str) -> list[str]:
    """The code blocks of one language below a heading of the README, in their order."""
    text = (ROOT / "README.md").read_text()
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (body,) = [part for part in section if part.startswith(f"{heading}\n")]
    return re.findall(rf"^```{language}\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
