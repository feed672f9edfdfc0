"""One JSON line a kind of question: from a decision's question to its sentences, on SQLite, in one process and warm.

Run: `python tests/bench/bench_ask.py`. A fleet of 64 agents has sent 4 windows of CloudService; the version asked about
has a network of two layers of 64 with random weights: what is computed does not depend on what they learned. The first
question about a version prepares it; its time is told apart.
"""

import sys
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from bench_decision import network
from timing import report

from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.explain.interval import moment_text
from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.ask.answer import Asker
from headrace.pipelines.ask.ground import Ground
from headrace.schemas.ports import Record
from headrace.schemas.records import LineageEntry, PolicyVersion, ServingPolicy

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))
from stream import open_stream

QUESTIONS = {
    "why": "why did {agent} do that at {time}?",
    "importance": "what mattered for {agent} at {time}?",
    "expected": "what value did {agent} expect at {time}?",
    "contrast": "why not +2 for {agent} at {time}?",
    "counterfactual": "what would have made {agent} choose +1 at {time}?",
    "similar": "have we seen before what {agent} saw at {time}?",
}
EACH = 50


def prepared(folder: Path) -> Asker:
    """A stream with rows and one version."""
    stream = open_stream(folder, segment=16_384, sample_every=64)
    fleet = stream.fleet(agents=64)
    for _ in range(4):
        fleet.emit_window(stream.advance)
    stream.ingest()
    payload = pack(network(32, "advantage", 5))
    lineage = [LineageEntry(row.reference, 0, place) for place, row in enumerate(stream.index.scan(payload=False))]
    version = PolicyVersion(
        *("cloud", 1, None, "dqn", {}, 0, "0", weights_hash(payload), 25_600, 1),
        *(lineage, {}, None, True, ""),
    )
    stream.store.put(version, payload)
    serving = ServingPolicy("cloud", 1, version.weights_hash, "gate", "", stream.clock.now_ms)
    stream.log.send([Record("policies", b"cloud", msgspec.json.encode(serving))])
    return Asker(Ground(stream.log, stream.index, stream.chunks, stream.store), TemplateNarrator())


def main() -> None:
    """Ask, and report."""
    with tempfile.TemporaryDirectory() as folder:
        asker = prepared(Path(folder))
        agents, newest_ms = asker.ground.agents("cloud"), asker.ground.newest_ms("cloud")
        rng, zone = np.random.default_rng(0), ZoneInfo("UTC")
        began = time.perf_counter()
        asker.ask(QUESTIONS["why"].format(agent=agents[0], time="now"), zone)
        print(f"first question: {time.perf_counter() - began:.2f} s", file=sys.stderr)
        for kind, text in QUESTIONS.items():
            times = []
            for _ in range(EACH):
                moment = moment_text(newest_ms - int(rng.integers(1, 8_000_000))).removesuffix(" UTC")
                asked = text.format(agent=agents[rng.integers(len(agents))], time=moment)
                marks = time.perf_counter(), time.process_time()
                answer = asker.ask(asked, zone)
                times.append((time.perf_counter() - marks[0], time.process_time() - marks[1]))
                assert answer.question.kind == kind, answer
                assert not answer.not_known, answer
            wall, cpu = 1e3 * np.array(times).T
            figures = {
                f"{name}_p{q}_ms": round(float(np.percentile(of, q)), 1)
                for name, of in (("wall", wall), ("cpu", cpu))
                for q in (50, 95)
            }
            report(f"ask {kind}, sqlite, template:", questions=EACH, **figures)


main()
