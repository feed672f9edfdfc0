"""What is drawn: small lines as inline SVG, and the points of a chart for the browser. Pure."""

import math
from collections.abc import Sequence
from typing import Any, Final

from headrace.pipelines.serve.console.safety import owner
from headrace.pipelines.serve.view import WindowTotals

MOST_POINTS: Final = 500
SPARK_POINTS: Final = 48
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 24.0


def spark(windows: Sequence[WindowTotals]) -> str:
    """Return the points of a polyline through the newest windows' rewards; "" for fewer than two."""
    values = [one.mean_reward for one in windows if one.mean_reward is not None][-SPARK_POINTS:]
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    step = SPARK_WIDTH / (len(finite) - 1)
    heights = (SPARK_HEIGHT - 2.0 - (SPARK_HEIGHT - 4.0) * (value - low) / span for value in finite)
    return " ".join(f"{place * step:.1f},{height:.1f}" for place, height in enumerate(heights))


def chart(windows: Sequence[WindowTotals], window_ms: int) -> dict[str, Any]:
    """Return reward a row by window (x: s since 1970, at the window's end), and where another version came to act."""
    shown = [one for one in windows if one.mean_reward is not None][-MOST_POINTS:]
    marks: list[dict[str, Any]] = []
    known = None
    for one in shown:
        version = owner(one)
        if version is not None and version != known:
            if known is not None:
                marks.append({"x": one.start_ms / 1_000, "label": f"v{version}" if version else "none"})
            known = version
    return {
        "x": [(one.start_ms + window_ms) / 1_000 for one in shown],
        "y": [_finite(one.mean_reward) for one in shown],
        "marks": marks,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
