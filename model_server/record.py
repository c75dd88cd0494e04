"""The log line of one request: what happened, never what was said."""

import logging
import time
from dataclasses import asdict, dataclass, field

logger = logging.getLogger("model_server.requests")


@dataclass
class RequestRecord:
    """What is known of a request so far; tokens are those billed, `status` is `None` if none was sent."""

    model: str
    path: str
    fault: str | None
    status: int | None = None
    stream: bool = False
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def write(self) -> None:
        """Log the request, with the milliseconds since its start."""
        fields = asdict(self)
        elapsed = time.monotonic() - fields.pop("started")
        logger.info("completion", extra={**fields, "duration_ms": round(elapsed * 1000, 1)})
