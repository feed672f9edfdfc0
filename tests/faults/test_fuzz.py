import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")
MEMORY_BYTES = 4 << 30
PEAK_MB = 300


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fuzz(count, seed):
    """Run the fuzzer in a process of its own: it must end by itself, whatever the bytes did to Arrow."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(FUZZ), str(count), str(seed)],
        preexec_fn=limit_memory,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )
    assert done.returncode == 0, f"seed {seed}: exit {done.returncode}\n{done.stderr[-3_000:]}"
    found = json.loads(done.stdout)
    assert found["messages"] == found["accepted"] + found["rejected"] == count
    assert found["peak_mb"] < PEAK_MB
    return found


def test_hostile_messages():
    """60,000 broken messages: each is accepted or rejected with its reason; nothing crashes, memory stays small."""
    found = fuzz(60_000, 7)
    assert found["rejected"] > 30_000
    assert found["accepted"] > 6_000
    assert {"syntax", "type", "width", "unknown_task", "empty", "content_type", "agent_id", "step"} <= found.keys()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_a_million_hostile_messages(seed):
    fuzz(100_000, 1_000 + seed)
