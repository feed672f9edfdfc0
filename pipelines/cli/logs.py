"""The log on stderr: lines for people, or one JSON object a line for programs."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from typing_extensions import override

from headrace.pipelines.cli.output import harmless
from headrace.pipelines.settings import LogFormat

EXTRA: Final = ("task", "topic", "partition", "offset", "offsets")
"""What a line of headrace's may say apart from its message; a JSON line has it as fields."""


class TextFormatter(logging.Formatter):
    """Records as lines for people; what others named commands no terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    @override
    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


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
        return harmless(msgspec.json.encode(line, enc_hook=str).decode())


def log_to_stderr(*, verbose: bool, log_format: LogFormat = "text", job: str = "") -> None:
    """Send headrace's own log to stderr; other packages' only from warnings on."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter(job) if log_format == "json" else TextFormatter())
    if log_format == "json":
        logging.captureWarnings(True)
    logging.getLogger("headrace").setLevel(logging.DEBUG if verbose else logging.INFO)


def is_json() -> bool:
    """Whether the log goes out as JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
