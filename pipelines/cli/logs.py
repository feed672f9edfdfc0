"""The log on stderr: lines for people, or one JSON object a line for programs."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from typing_extensions import override

from headrace.pipelines.settings import LogFormat

EXTRA: Final = ("task", "topic", "partition", "offset", "offsets")
"""What a line of headrace's may say apart from its message; a JSON line has it as fields."""


class JsonFormatter(logging.Formatter):
    """Records as JSON: ts (ISO 8601, UTC), level, logger, job, message, EXTRA where known, and exception."""

    def __init__(self, job: str) -> None:
        super().__init__()
        self._job = job

    @override
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "job": self._job,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def log_to_stderr(*, verbose: bool, log_format: LogFormat = "text", job: str = "") -> None:
    """Send headrace's own log to stderr; other packages' only from warnings on."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    if log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter(job))
        logging.captureWarnings(True)
    logging.getLogger("headrace").setLevel(logging.DEBUG if verbose else logging.INFO)


def is_json() -> bool:
    """Whether the log goes out as JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
