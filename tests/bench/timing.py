"""What benches measure, and the line of JSON that they print."""

import json
import time
from collections.abc import Callable


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def best_s(call: Callable[[], object], rounds: int, calls: int = 1) -> float:
    """CPU seconds a call in the fastest of the rounds: what else the machine does only adds."""

    def once() -> None:
        for _ in range(calls):
            call()

    return min(timed(once)[0] for _ in range(rounds)) / calls


def report(name: str, **figures: float) -> None:
    """One line of JSON."""
    rounded = {key: round(value, 3) for key, value in figures.items()}
    print(json.dumps({"bench": name, **rounded}), flush=True)
