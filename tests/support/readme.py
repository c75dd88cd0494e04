"""The examples of the README and of other pages, so that they can be run as they stand."""

from __future__ import annotations

import re

from tests.support.processes import ROOT


def examples(heading: str, language: str, page: str = "README.md") -> list[str]:
    """The code blocks of one language below a heading of a page, in their order."""
    section = re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE)
    (body,) = [part for part in section if part.startswith(f"{heading}\n")]
    return re.findall(rf"^```{language}\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
