"""What the clients' sessions ask with: two tools, a shape to fill and an image."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

WEATHER_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
TIME_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"zone": {"type": "string"}},
    "required": ["zone"],
    "additionalProperties": False,
}

# One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
IMAGE_URL = f"data:image/png;base64,{PNG}"


class City(BaseModel):
    """An answer that a client asks for by schema."""

    name: str
    continent: Literal["Africa", "America", "Asia", "Europe", "Oceania"]
    inhabitants: int
