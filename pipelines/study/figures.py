"""The study's figures as PNG. The same tables give the same bytes; arms differ in line and mark too."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from headrace.learners.cloud.baselines import CALLED
from headrace.pipelines.report.plots import BLUE, FAINT, GREEN, GREY, INK, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN: Final = 8.0
STYLES: Final[Mapping[str, tuple[str, str | tuple[int, tuple[float, ...]], str]]] = {
    "dqn": (BLUE, "-", "o"),
    "ppo": (VERMILION, (0, (5.0, 1.5)), "s"),
    "dqn+advisor": (GREEN, (0, (1.2, 1.2)), "^"),
    "dqn+schedule": (ORANGE, (0, (6.0, 1.5, 1.2, 1.5)), "D"),
}
NAMES: Final[Mapping[str, str]] = {
    "dqn": "DQN",
    "ppo": "PPO",
    "dqn+advisor": "DQN + advisor",
    "dqn+schedule": "DQN + best fixed schedule",
    "dqn+random": "DQN + random directives",
    "dqn+llm": "DQN + language model",
    "dqn+llm-random": "DQN + as many random directives as the model's",
    "dqn+scenarios": "DQN + hardest scenarios",
    "dqn+drawn": "DQN + random scenarios",
    "dqn+llm-scenarios": "DQN + a model's scenarios",
}
RULE_NAMES: Final[Mapping[str, str]] = {name: CALLED[name] for name in ("hpa_kubernetes", "rate_rule", "tuned_rule")}
_ZOOM: Final = 6.0
"""Return shown of the right panel: the levels and what lies just below them."""


def figures(tables: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw every figure, by its file name."""
    return {
        "learning_curves.png": _png((WIDTH_IN, 3.6), _learning_curves, tables),
        "final_returns.png": _png((WIDTH_IN, 2.9), _final_returns, tables),
        "differences.png": _png((WIDTH_IN, 3.2), _differences, tables),
    }


def _png(size_in: tuple[float, float], draw: Any, tables: Mapping[str, Any]) -> bytes:  # noqa: ANN401 a function
    # Imported here, because matplotlib takes half a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=size_in, dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, tables)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plain(axes: "Axes", grid: str) -> "Axes":
    """Without frames, with a faint grid."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=GREY)
    axes.grid(visible=True, axis=grid, color=FAINT, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    return axes


def _learning_curves(figure: "Figure", tables: Mapping[str, Any]) -> None:
    """Left all of it, right the levels. Lines: means over seeds; bands: 95 % intervals; thin lines: rules."""
    whole, near = (_plain(axes, "y") for axes in figure.subplots(1, 2))
    curves = tables["figure1"].values()
    # The bands of a run's beginning are wide, and would squeeze all the rest.
    settled = [bound for curve in curves for bound in curve["high"][len(curve["high"]) // 2 :]]
    top = max(*settled, *(tables["rules"]["curve"][name] for name in RULE_NAMES)) + 0.4
    bottom = max(0.0, min(min(curve["mean"]) for curve in curves) - 3.0)
    for axes in (whole, near):
        for arm, curve in tables["figure1"].items():
            colour, line, _ = STYLES[arm]
            x = [step / 1_000 for step in curve["steps"]]
            axes.fill_between(x, curve["low"], curve["high"], color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, curve["mean"], color=colour, linestyle=line, linewidth=1.7, label=NAMES[arm])
        axes.set_xlabel("experience (thousand environment steps)", fontsize=9)
        axes.set_xlim(left=0)
        axes.margins(x=0.0)
    whole.set_ylabel("return of the greedy policy", fontsize=9)
    near.set_ylim(top - _ZOOM, top)
    whole.set_ylim(bottom, top + 4.0)
    for name, shown in RULE_NAMES.items():
        level = tables["rules"]["curve"][name]
        near.axhline(level, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        if level > top - _ZOOM:
            near.annotate(shown, (1.0, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
                          textcoords="offset points", fontsize=8, color=GREY, va="center", annotation_clip=False,
            )  # fmt: skip
    figure.legend(*whole.get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False, fontsize=9,
                  handlelength=2.8)  # fmt: skip


def _final_returns(figure: "Figure", tables: Mapping[str, Any]) -> None:
    """A dot a seed; the mark with its bar: mean and 95 % interval."""
    axes = _plain(figure.subplots(), "x")
    arms = list(tables["arms"])
    summaries = next(row["arms"] for row in tables["table1"] if row["measure"] == "final")
    for place, arm in enumerate(arms):
        colour, _, mark = STYLES[arm]
        values, told = tables["finals"][arm], summaries[arm]
        spread = [place + 0.2 + 0.2 * (i % 5) / 5 for i in range(len(values))]
        axes.plot(values, spread, "o", color=colour, markersize=3.5, alpha=0.55, markeredgewidth=0)
        axes.hlines(place - 0.1, told["low"], told["high"], color=colour, linewidth=2.5)
        axes.plot([told["mean"]], [place - 0.1], mark, color=colour, markersize=7, markeredgecolor="white")
    for name, shown in RULE_NAMES.items():
        level = tables["rules"]["final"][name]["mean"]
        if level < min(min(tables["finals"][arm]) for arm in arms) - 2.0:
            continue
        axes.axvline(level, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(shown, (level, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", fontsize=8, color=GREY, ha="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(arms)), [NAMES[arm] for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_xlabel(f"return of the final policy, mean over {tables['final_traces']} held-out traces", fontsize=9)


def _differences(figure: "Figure", tables: Mapping[str, Any]) -> None:
    """Each pair of arms on two measures, seed by seed: mean difference with its 95 % interval."""
    axes = [_plain(one, "x") for one in figure.subplots(1, 2, sharey=True)]
    short = {**NAMES, "dqn+schedule": "DQN + schedule"}
    labels = {"final": "return of the final policy", "episodes": "episodes to convergence"}
    for one, (measure, shown) in zip(axes, labels.items(), strict=True):
        pairs = [row for row in tables["table4"]["pairwise"] if row["measure"] == measure]
        names = [f"{short[row['first']]} less {short[row['second']]}" for row in pairs]
        for place, row in enumerate(pairs):
            sure = row["p_holm"] <= 0.05
            one.hlines(place, row["low"], row["high"], color=INK, linewidth=2)
            one.plot([row["difference"]], [place], "o", color=INK, markersize=7,
                     markerfacecolor=INK if sure else "white")  # fmt: skip
        one.axvline(0.0, color=GREY, linewidth=1, zorder=1)
        one.set_xlabel(f"difference in {shown}", fontsize=9)
        one.locator_params(axis="x", nbins=5)
        one.set_yticks(range(len(pairs)), names)
        one.set_ylim(len(pairs) - 0.5, -0.5)
