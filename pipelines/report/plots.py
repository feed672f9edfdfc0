"""A report's plots, as PNG. The same series give the same bytes: no dates inside, no global state.

Colours are Okabe and Ito's, which people with any colour vision can tell apart.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from headrace.learners.explain.series import ESTIMATED
from headrace.schemas.records import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#AA4499"
INK, GREY, FAINT = "#222222", "#767676", "#D9D9D9"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK, GREY)
DIVERGING = {1: "#BDBDBD", 3: "#B35806 #BDBDBD #2171B5", 5: "#B35806 #F1A340 #D0D0D0 #92C5DE #2171B5"}
"""For actions with an order, from down to up: orange, grey, blue."""
WIDTH_IN = 6.4


@dataclass(frozen=True, slots=True)
class Plot:
    """How a plot is drawn: height in inches, and its title and caption for the text around it."""

    title: str
    caption: str
    height_in: float
    draw: Callable[["Figure", Sequence[Series]], None]


def png(name: str, series: Sequence[Series], *, dpi: int = 160) -> bytes:
    """Draw a plot, in a palette of 64 colours; name: a key of PLOTS."""
    # Imported here, because matplotlib takes half a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    plot = PLOTS[name]
    figure = Figure(figsize=(WIDTH_IN, plot.height_in), dpi=dpi, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    plot.draw(figure, [_plain(one) for one in series])
    canvas.draw()  # type: ignore[no-untyped-call]
    rgba = bytes(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    pixels = Image.frombytes("RGBA", canvas.get_width_height(), rgba)
    image = pixels.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, dpi=(dpi, dpi))
    return buffer.getvalue()


def _plain(series: Series) -> Series:
    """Keep matplotlib from reading names as formulas (dollar signs) or as hidden (leading underscores)."""
    name, *labels = (
        "".join(char if char.isprintable() else "?" for char in text).replace("$", r"\$")[:60]
        for text in (series.name, *series.labels)
    )
    return replace(series, name=f" {name}" if name.startswith("_") else name, labels=tuple(labels))


def alternative(name: str, series: Sequence[Series]) -> str:
    """Say in words what a plot shows, for those who do not see it."""
    plot = PLOTS[name]
    ends = [f"{one.name} ends at {one.y[-1]:.3g}" for one in series if one.y and not _places(one)]
    places = [
        f"{one.name}: " + ", ".join(f"{label} {y:.3g}" for label, y in zip(one.labels, one.y, strict=False))
        for one in series
        if _places(one)
    ]
    return f"{plot.title}. " + "; ".join(ends + places) + "."


def _places(series: Series) -> bool:
    """Whether labels name a series' points, not an episode's axes."""
    return len(series.labels) == len(series.y) > 0


def _axes(figure: "Figure", rows: int = 1, across: Literal["x", "y"] = "y") -> list["Axes"]:
    """Axes without frames, with a faint grid; across: the axis that its lines cross."""
    found: list[Axes] = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for axes in found:
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(GREY)
        axes.tick_params(colors=INK, labelsize=9, length=3, color=GREY)
        axes.grid(visible=True, axis=across, color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
    return found


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Move labels' heights apart, in order, so that neighbours are at least `gap` apart."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    placed = list(values)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    return placed


def _label_ends(axes: "Axes", lines: Sequence[tuple[str, float, str]]) -> None:
    """Write each line's name beside its end; lines: name, y, colour."""
    low, high = axes.get_ylim()
    heights = _spread([y for _, y, _ in lines], (high - low) * 0.075)
    beside = axes.get_yaxis_transform()  # x in shares of the axes' width
    for (name, _, colour), height in zip(lines, heights, strict=True):
        axes.text(1.015, height, name, transform=beside, color=colour, fontsize=9, va="center")


def _learning_curve(figure: "Figure", series: Sequence[Series]) -> None:
    """Lines of baselines are thin and dashed; the policy's is thick, its promoted versions are dots."""
    (axes,) = _axes(figure)
    curve, promoted, levels = series[0], series[1], series[2:]
    lines = []
    for level in levels:
        axes.axhline(level.y[0], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        lines.append((level.name, level.y[0], GREY))
    x = [value / 1000 for value in curve.x]
    axes.plot(x, curve.y, color=BLUE, linewidth=2)
    axes.plot([value / 1000 for value in promoted.x], promoted.y, "o", color=BLUE, markersize=6)
    lines.append(("policy (dots: promoted)", curve.y[-1], BLUE))
    measure = "discounted return, estimated" if curve.name == ESTIMATED else "mean return on the gate's traces"
    axes.set(xlabel="experience (thousand environment steps)", ylabel=measure, xmargin=0.02)
    _label_ends(axes, lines)


def _terms(figure: "Figure", series: Sequence[Series]) -> None:
    """Dots with their 95 % intervals, a row a term, a colour an opponent."""
    (axes,) = _axes(figure, across="x")
    axes.axvline(0.0, color=INK, linewidth=1)
    _intervals(axes, series, [f"against {one.name}" for one in series])
    axes.set_xlabel("difference in return (right of 0: this version is better)")
    _legend(axes, min(len(series), 2))


def _intervals(axes: "Axes", series: Sequence[Series], names: Sequence[str]) -> None:
    """Draw a row for each label, and in it a dot with its bar for each series."""
    labels = series[0].labels
    step = 0.6 / max(len(series), 1)
    for place, (one, name, colour) in enumerate(zip(series, names, COLOURS, strict=False)):
        rows = [row + (place - (len(series) - 1) / 2) * step for row in range(len(one.y))]
        if one.low and one.high:
            axes.hlines(rows, one.low, one.high, color=colour, linewidth=2)
        axes.plot(one.y, rows, "osD^v"[place % 5], color=colour, markersize=6, label=name)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _legend(axes: "Axes", columns: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _action_mix(figure: "Figure", series: Sequence[Series]) -> None:
    """Stacked bars, one a situation; shares of at least 7 % are written in."""
    (axes,) = _axes(figure)
    axes.grid(visible=False)
    labels, left = series[0].labels, [0.0] * len(series[0].labels)
    for one, colour in zip(series, _action_colours([one.name for one in series]), strict=True):
        bars = axes.barh(range(len(labels)), one.y, 0.62, left=left, color=colour, edgecolor="white", label=one.name)
        dark = sum(int(colour[at : at + 2], 16) for at in (1, 3, 5)) < 380
        shares = [f"{share:.0f}" if share >= 7.0 else "" for share in one.y]
        axes.bar_label(bars, shares, label_type="center", fontsize=9, color="white" if dark else INK)
        left = [start + share for start, share in zip(left, one.y, strict=True)]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of decisions (%)")
    _legend(axes, len(series) if sum(len(one.name) + 4 for one in series) < 70 else 3)


def _action_colours(names: Sequence[str]) -> list[str]:
    """Return a diverging scale where the actions are numbers around 0, else colours apart."""
    if len(names) in DIVERGING and all(name.lstrip("+-").isdigit() for name in names):
        return DIVERGING[len(names)].split()
    return [COLOURS[place % len(COLOURS)] for place in range(len(names))]


def _action_range(figure: "Figure", series: Sequence[Series]) -> None:
    """A dot at the median, a bar over what lies in the middle; a row a situation, a colour a dimension."""
    (axes,) = _axes(figure, across="x")
    _intervals(axes, series, [one.name for one in series])
    axes.set_xlabel("action")
    _legend(axes, min(len(series), 4))


def _action_shares(figure: "Figure", series: Sequence[Series]) -> None:
    """A line a dimension, or an interval; the first one is filled."""
    (axes,) = _axes(figure)
    axes.fill_between(series[0].x, series[0].y, color=FAINT)
    for one, colour in zip(series, COLOURS, strict=False):
        axes.plot(one.x, one.y, color=colour, linewidth=1.6, label=one.name)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="action", ylabel="share of actions (%)", xmargin=0.01)
    _legend(axes, min(len(series), 4))


def _episode(figure: "Figure", series: Sequence[Series]) -> None:
    """Above what came from outside, below what was done. labels of the first: of the axes across and below."""
    top, bottom = _axes(figure, 2)
    load, courses = series[0], series[1:]
    top.fill_between(load.x, load.y, color=FAINT)
    top.plot(load.x, load.y, color=INK, linewidth=1.2)
    top.set_ylabel(load.name)
    top.set_ylim(bottom=0)
    top.tick_params(labelbottom=False)
    styles = (("-", 2.0), ((0, (3, 1.5)), 1.4))
    for one, colour, (style, width) in zip(courses, (BLUE, VERMILION), styles, strict=False):
        bottom.step(one.x, one.y, where="post", color=colour, linewidth=width, linestyle=style, label=one.name)
    bottom.set_ylim(bottom=0)
    across, below = load.labels or ("", "")  # reports of earlier versions have none
    bottom.set(xlabel=across, ylabel=below, xmargin=0.01)
    _legend(bottom, 2)


def _reward(figure: "Figure", series: Sequence[Series]) -> None:
    (axes,) = _axes(figure)
    for one, colour, width in zip(series, (BLUE, GREY), (2.0, 1.2), strict=False):
        axes.plot(one.x, one.y, color=colour, linewidth=width, label=one.name)
    axes.set(xlabel="time since the interval began (hours)", ylabel="mean reward per step", xmargin=0.01)
    _legend(axes, 2)


PLOTS: dict[str, Plot] = {
    "terms": Plot(
        "Where the difference comes from",
        "Each part of the return, against the other controllers on the same fixed traces. Bars: 95 % intervals.",
        2.7,
        _terms,
    ),
    "reward": Plot("Reward through the interval", "Mean reward per step, window by window, all agents.", 2.5, _reward),
    "learning_curve": Plot(
        "Learning so far",
        "Every version that the gate has judged. Dashed, where known: what other controllers reach.",
        2.8,
        _learning_curve,
    ),
    "action_mix": Plot("What it does, and when", "How often each action is taken, in %.", 2.2, _action_mix),
    "action_range": Plot(
        "What it does, and when", "Its action by situation: the median, and a bar over 80 % of it.", 2.4, _action_range
    ),
    "action_shares": Plot(
        "What was done", "How the values of the actions taken lie, exploration and all.", 2.4, _action_shares
    ),
    "episode": Plot("One episode", "Of the fixed traces, the one of which the simulator shows most.", 3.6, _episode),
}
"""The plots by name, the most important first: a digest that is too large drops them from the end."""
