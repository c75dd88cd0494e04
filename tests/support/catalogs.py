"""Models files for gateways under test, beside the URLs of the mock models that their environment gives."""

from __future__ import annotations

from pathlib import Path

from tests.support.stack import MODELS

ALL_APIS = ("chat_completions", "responses", "messages", "completions", "embeddings")


def write_catalog(
    folder: Path, *, apis: tuple[str, ...] = ALL_APIS, context_window: int | None = None
) -> str:
    """The path of a new file in which the providers of both models serve `apis` themselves."""
    lines = [f"apis = {list(apis)}"]
    if context_window is not None:
        lines.append(f"context_window = {context_window}")
    price = "usd_per_million_tokens = {input = 1, cached_input = 1, output = 1}"
    file = folder / "models.toml"
    file.write_text("\n".join(line for name in MODELS for line in (f"[{name}]", *lines, price)) + "\n")
    return str(file)
