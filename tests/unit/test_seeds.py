"""Seeds have their names in one module, and what was tuned on is never judged on."""

import ast
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from headrace.learners import seeds
from headrace.learners.cloud import draw_traces

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("schemas", "sinks", "learners", "pipelines", "tests/bench")
    for path in (ROOT / folder).rglob("*.py")
    if path != ROOT / "learners" / "seeds.py"
)
SEED_PLACE = {
    "draw_traces": 0,
    "default_rng": 0,
    "SeedSequence": 0,
    "Random": 0,
    "seed": 0,
    "CloudSimulator": 1,
    "simulator": 2,
    "task_simulator": 2,
    "fresh_simulator": 2,
    "GymnasiumSimulator": 2,
    "evaluated": 3,
    "evaluated_baseline": 3,
}
"""Where functions and classes take a seed without a keyword."""


def overlapping(ranges):
    return [
        (one, other)
        for (one, a), (other, b) in combinations(ranges.items(), 2)
        if a.kind == b.kind and max(a.first, b.first) < min(a.first + a.count, b.first + b.count)
    ]


def test_no_two_ranges_of_a_kind_share_a_seed():
    assert overlapping(seeds.ALL) == []


def test_the_tuned_rule_was_once_tuned_on_the_studys_traces():
    """As it was: 40 generations from the seed after the curve's, which they end beyond the final traces'."""
    before = seeds.ALL | {"TUNING": replace(seeds.TUNING, first=86_028_121)}
    assert overlapping(before) == [("STUDY_CURVE", "TUNING"), ("STUDY_FINAL", "TUNING")]


def test_every_range_says_what_it_is_for():
    for name, one in seeds.ALL.items():
        assert one.count > 0, name
        assert one.kind in ("traces", "training", "draws"), name
        assert one.purpose, name
        assert one.each() == range(one.first, one.first + one.count)


def test_values_on_which_stored_figures_rest():
    """Gate, reports, study and drawn actions: with another value, old records would no longer compare with new ones."""
    assert {name: one.first for name, one in seeds.ALL.items() if name not in ("TUNING", "TUNED", "CANDIDATES")} == {
        "STATIC": 0,
        "EVALUATION": 1,
        "PRESETS": 987_654,
        "EXPLANATION": 7_340_033,
        "GATE": 15_485_863,
        "CANDIDATE": 1_000_000_000,
        "FITS": 141_650_939,
        "EVALUATIONS": 20_261_129,
        "HELD_OUT": 20_260_101,
        "SELECTION": 32_452_843,
        "SCENARIOS": 49_979_693,
        "RULES": 217_645_199,
        "RULES_JUDGE": 217_645_209,
        "RULE_SEARCH": 236_887_691,
        "STUDY_JUDGE": 49_979_687,
        "STUDY_SEARCH": 67_867_967,
        "STUDY_CURVE": 86_028_121,
        "STUDY_FINAL": 86_028_157,
        "PRESET_TRAINING": 0,
        "STUDY_SEARCH_TRAINING": 500,
        "STUDY_TRAINING": 1_000,
        "LOOKUPS": 0,
        "STUDY_DRAWN": 32_452_867,
        "STUDY_CANDIDATES": 20_261_122,
        "FLOOR": 73_856_093,
        "RANDOM_PLAY": 19_349_663,
        "ACTIONS": 86_028_121,
        "SCORED_STATES": 104_395_301,
        "SCORED_TRAINING": 3_000,
        "SCORED_DRAWS": 104_395_303,
    }


def test_equal_traces_come_of_equal_seeds_alone():
    """Neighbours in a range share nothing: a range of 41 seeds is 41 sets of traces."""
    first, second = (draw_traces(seed, 16) for seed in seeds.TUNING.each()[:2])
    assert (first.requests != second.requests).any(axis=1).all()


def written(value):
    """Return the integers that stand in an expression and in the tuples and sums in it, but in no call of it."""
    match value:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return [number]
        case ast.UnaryOp() | ast.BinOp() | ast.Tuple() | ast.List():
            return [number for part in ast.iter_child_nodes(value) for number in written(part)]
    return []


def defaults(args):
    """Return the parameters that have a default, by name."""
    positional = [*args.posonlyargs, *args.args]
    found = list(zip(positional[len(positional) - len(args.defaults) :], args.defaults, strict=True))
    found += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return [(one.arg, value) for one, value in found if value is not None]


def given(call):
    """Return the arguments that a call gives, by name; the place that takes a seed and --seed's default are `seed`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    option = any(isinstance(one, ast.Constant) and one.value == "--seed" for one in call.args)
    found = [("seed" if option and one.arg == "default" else one.arg or "", one.value) for one in call.keywords]
    if name in SEED_PLACE:
        found += [("seed", one) for one in call.args[SEED_PLACE[name] :][:1]]
    return found


def named_values(node):
    """Return what a node gives a value to, by name."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return [(" ".join(map(ast.unparse, targets)), value)]
        case ast.AnnAssign(target=target, value=value):
            return [(ast.unparse(target), value)]
        case ast.FunctionDef(args=args) | ast.Lambda(args=args):
            return defaults(args)
        case ast.Call():
            return given(node)
    return []


def literal_seeds(source):
    """Find the seeds that a source writes as a number; 0 is one only where it is drawn from, as users begin there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name, value in named_values(node):
            if "seed" in name.lower() and "limit" not in name.lower():
                drawn = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SEED_PLACE
                found += [number for number in written(value) if number or drawn]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "SEED = 86_028_121",
        "GATE_SEED: Final = 15_485_863",
        "TRACES, TRACES_SEED = 128, 86_028_121",
        "draw_traces(7, 512)",
        "workload.draw_traces(0, 512)",
        "np.random.default_rng(3)",
        "np.random.SeedSequence(3)",
        "simulator(environment, 512, 5)",
        "simulator(environment, seed=5)",
        "def f(seed: int = 12): ...",
        "def f(*, seed: int = 12): ...",
        "draw_traces(seed=2**20 + 1, count=3)",
        "click.option('--seed', default=4)",
    ],
)
def test_the_scan_finds_a_seed_written_as_a_number(source):
    assert literal_seeds(source)


@pytest.mark.parametrize(
    "source",
    ["seed = seeds.GATE.first", "def f(seed: int = 0): ...", "draw_traces(seed, 512)", "make(count=3, steps=100)"],
)
def test_the_scan_leaves_other_numbers_and_users_seeds_alone(source):
    assert not literal_seeds(source)


def test_every_fixed_seed_in_the_code_is_of_the_module():
    """The benchmarks of speed alone draw by seed 0, as no figure depends on it."""
    written = {str(path.relative_to(ROOT)): literal_seeds(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(written) > 100
    for path, numbers in written.items():
        assert [n for n in numbers if n or not path.startswith("tests/bench/")] == [], path
