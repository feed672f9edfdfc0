"""What a small model costs, and how much of what it says is grounded: python tests/llm/figures.py [FILE.gguf].

tests/unit must be on PYTHONPATH, as `make test-llm` has it.

Each sentence is asked for over HTTP, as a report's are; each report is told twice, the second time from what is known;
an advisor's question is asked as a learner asks it. Last comes the scorecard in short: CartPole, two seeds.
A JSON line each. Both clocks are told, as the machine may be busy: seconds, and the server's CPU-seconds.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from local_model import Served, serving
from narration_examples import every_facts

from headrace.learners.seeds import SCORED_TRAINING
from headrace.pipelines.narrating.narrator import ModelNarrator
from headrace.pipelines.study import explained, scores, scoring
from headrace.pipelines.study.scorecard import scorecard
from headrace.schemas.directives import EarlierDirective, LearningFacts
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import Answer, read
from headrace.schemas.narration.ranking import mattered
from headrace.schemas.narration.single import prompt
from headrace.schemas.records import Facts
from headrace.schemas.url import parse_url
from headrace.sinks.openai.advisor import OpenAIAdvisor
from headrace.sinks.openai.client import open_client
from headrace.sinks.openai.narrator import OpenAINarrator, open_narrator

T = TypeVar("T")


def figures(options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), *options) as served:
        url = f"{served.url}&timeout_s=300"
        with closing(open_narrator(parse_url(url), environ={})) as model:
            say("sentences", model=served.name, **sentences(served, model))
        say("reports", model=served.name, **reports(url, Path(folder) / "narrator.db"))
        say("advice", model=served.name, **advice(served))
        for measure in scorecard_in_short(f"{url}&store={folder}/scorecard.db", Path(folder) / "scores"):
            say("scorecard", model=served.name, **measure)


def sentences(served: Served, model: OpenAINarrator) -> dict[str, object]:
    """Each different question that the examples give, asked once."""
    server = psutil.Process(served.process.pid)
    asked, grounded, seconds, cpu = set[str](), list[bool](), list[float](), list[float]()
    for facts in every_facts().values():
        aliases = Aliases(facts)
        for fact in mattered(facts):
            if prompt(fact, aliases) in asked:
                continue
            asked.add(prompt(fact, aliases))
            before = sum(server.cpu_times()[:2])
            said, took_s = timed(lambda: model.sentence(fact, aliases, 300.0))  # noqa: B023
            seconds.append(took_s)
            cpu.append(sum(server.cpu_times()[:2]) - before)
            grounded.append(read(Answer((said,)), facts)[0].sentence is not None)
    tokens_in, tokens_out = model.tokens
    return {
        "sentences": len(seconds),
        "grounded_percent": round(100.0 * float(np.mean(grounded)), 1),
        "prompt_tokens": round(tokens_in / len(seconds), 1),
        "answer_tokens": round(tokens_out / len(seconds), 1),
        "answer_tokens_per_cpu_s": round(tokens_out / sum(cpu), 1),
        **percentiles("sentence_ms", seconds),
        **percentiles("sentence_cpu_ms", cpu),
        "server_mb": round(server.memory_info().rss / 1e6),
    }


def reports(url: str, store: Path) -> dict[str, object]:
    """Each example's report, first and again; minutes apart, so a narrator for each, as none is ever asked too soon."""
    counts = Counter[tuple[str, ...]]()

    def told(facts: Facts) -> float:
        model = open_narrator(parse_url(f"{url}&store={store}"), environ={})
        with closing(ModelNarrator(model, lambda: 0)) as narrator:
            took_s = timed(lambda: narrator.tell(facts))[1]
            counts.update(narrator.counters())
        return took_s

    first, again = ([told(facts) for facts in every_facts().values()] for _ in range(2))
    found = {name: counts[name,] for name in ("asked", "cached", "failed", "fallback")}
    return {**found, **percentiles("first_ms", first), **percentiles("again_ms", again)}


def advice(served: Served) -> dict[str, object]:
    """Advise on a learner of five actions and three rules, from the first version to eight directives before."""
    server, rules = psutil.Process(served.process.pid), dict.fromkeys(("hpa", "hpa_kubernetes", "rate_rule"), 76.71)
    settings = {"learning_rate": 1e-3, "epsilon_end": 0.05, "epsilon_steps": 30_720.0}
    settings |= {f"explore_rule.{name}": 0.0 for name in rules}
    seconds, cpu, proposed = list[float](), list[float](), 0
    client = open_client(parse_url(f"openai:{served.name}?base_url={served.base_url}&timeout_s=300"), environ={})
    with closing(OpenAIAdvisor(client)) as advisor:
        for version in range(1, 10):
            before = sum(server.cpu_times()[:2])
            said, took_s = timed(lambda: advisor.propose(learning(version, settings, rules)))  # noqa: B023
            seconds.append(took_s)
            cpu.append(sum(server.cpu_times()[:2]) - before)
            proposed += len(said)
    return {
        "questions": len(seconds),
        "changes": proposed,
        "prompt_tokens": round(client.usage.tokens_in / len(seconds), 1),
        "answer_tokens": round(client.usage.tokens_out / len(seconds), 1),
        **percentiles("question_ms", seconds),
        **percentiles("question_cpu_ms", cpu),
    }


def learning(version: int, settings: dict[str, float], rules: dict[str, float]) -> LearningFacts:
    """Facts of a version as the study's have them: other numbers each time."""
    rng = np.random.default_rng(version)
    returns = tuple((60.0 + 3.0 * np.arange(version) + rng.normal(size=version)).tolist())
    before = EarlierDirective(1, 1, "explore_rule", "rate_rule", 0.2, 0.0, "accepted", "gate", 1.53, -0.62, 3.68)
    return LearningFacts(
        version=version,
        rows=5_120 * version,
        updates=80 * version,
        skipped_updates=0,
        settings=settings,
        exploration=float(rng.uniform(0.05, 0.9)),
        **dict(zip(("loss", "td_abs", "td_abs_before"), rng.uniform(0.1, 1.0, 3).tolist(), strict=True)),
        returns=returns[-8:],
        floor=76.71,
        rules=rules,
        actions=tuple(rng.dirichlet(np.ones(5)).tolist()),
        earlier=(before,) * (version - 1),
    )


def scorecard_in_short(url: str, folder: Path) -> Iterator[dict[str, object]]:
    """Score CartPole's explanations by the model, beside the template and the controls: means over two seeds."""
    arms = dict.fromkeys(scores.ARMS, "") | {"local": url}
    scoring.score_all(folder, explained.subjects()[1:2], arms, SCORED_TRAINING.each()[:2], 1)
    for row in scorecard(scores.read(folder))["measures"]:
        means = {arm: told and round(told["mean"], row["digits"]) for arm, told in row["arms"].items()}
        yield {"measure": row["label"], "unit": row["unit"], **means}


def timed(function: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    found = function()
    return found, time.perf_counter() - start


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    return {f"{name}_p{part}": round(float(np.percentile(seconds, part)) * 1e3, 1) for part in (50, 95)}


def say(name: str, **values: object) -> None:
    print(json.dumps({"bench": name, **values}), flush=True)


if __name__ == "__main__":
    figures(["--model", str(Path(sys.argv[1]).resolve())] if sys.argv[1:] else [])
