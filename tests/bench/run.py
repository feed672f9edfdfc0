"""Run every bench file in this folder and print one table, with targets: python tests/bench/run.py [file ...].

A bench file prints JSON lines. Each runs in a process of its own with one thread. Exit 0 whether targets are met or
not: what falls short on this machine is for a person to read.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent

# (file, what its line says, figure): target; a figure of a name that ends in _us, _mb, row or microseconds is a limit.
TARGETS = {
    ("bench_ingest", "json", "rows_per_cpu_s"): 650_000,
    ("bench_ingest", "arrow_256", "rows_per_cpu_s"): 2_000_000,
    ("bench_ingest", "json", "payload_bytes_per_row"): 40,
    ("bench_ingest", "chunk", "encode_us_per_row"): 0.15,
    ("bench_ingest", "chunk", "decode_500_us"): 60,
    ("bench_ingest", "ratios", "json_to_naive"): 8,
    ("bench_ingest", "ratios", "agents_10000_to_64"): 1.5,
    ("bench_ingest", "memory", "growth_mb"): 20,
    ("bench_cloud", "simulation_256", "steps_per_s"): 1_000_000,
    ("bench_learn", "decision batch=1", "microseconds"): 6,
    ("bench_learn", "decision_prior batch=1", "microseconds"): 6,
    **{("bench_act", f"act_{name} batch=1", "microseconds"): 6 for name in ("greedy", "epsilon", "softmax", "normal")},
    ("bench_act", "act_start", "cpu_ms"): 300,
    **{
        ("bench_decision", f"decision_{name}", "facts_p95_ms"): 30
        for name in ("cloud_dqn", "cloud_ppo", "cartpole_dqn", "cartpole_ppo", "pendulum_ppo")
    },
    ("bench_learn", "replay_sample batch=256", "items_per_s"): 5_000_000,
    ("bench_learn", "replay_prioritised batch=256", "items_per_s"): 1_900_000,
    ("bench_learn_peers", "ppo_to_sb3", "times"): 3,
    ("bench_learn_peers", "dqn_to_sb3", "times"): 3,
}
LIMITS = ("_us", "_mb", "_row", "microseconds", "_ms", "agents_10000_to_64")


def lines(file: Path) -> Iterator[dict[str, object]]:
    """Run one file; yield its JSON lines."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, check=False, env=env)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
    if done.returncode:
        print(f"{file.name} failed with exit {done.returncode}", file=sys.stderr)


def figures(file: Path) -> Iterator[tuple[str, str, float]]:
    """Yield (what was measured, figure's name, value)."""
    for line in lines(file):
        name = str(line.pop("bench", file.stem))
        if "batch" in line:
            name += f" batch={line.pop('batch')}"
        for key, value in line.items():
            if isinstance(value, int | float) and not key.startswith(("limit_", "floor_items")):
                yield name, key, value


def shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.3g}"


def verdict(key: str, value: float, target: float | None) -> tuple[str, str]:
    """Return the target as text, and whether it was met."""
    if target is None:
        return "", ""
    limit = key.endswith(LIMITS)
    met = value <= target if limit else value >= target
    return f"{'<=' if limit else '>='} {shown(target)}", "met" if met else "SHORT"


def main() -> None:
    files = [FOLDER / name for name in sys.argv[1:]] or sorted(
        file
        for file in FOLDER.glob("bench_*.py")
        if not file.name.startswith("bench_servers")  # `make bench-servers`
    )
    print(f"{'file':14} {'what':22} {'figure':24} {'value':>12} {'target':>14}")
    for file in files:
        for name, key, value in figures(file):
            target, met = verdict(key, value, TARGETS.get((file.stem, name, key)))
            print(f"{file.stem:14} {name:22} {key:24} {shown(value):>12} {target:>14} {met}", flush=True)


if __name__ == "__main__":
    main()
