"""The study's measures by hand, its store, its tables on made-up runs, and its design."""

import json

import numpy as np
import pytest

from headrace.pipelines.study import design, measures, paper, search, store
from headrace.pipelines.study.figures import figures
from headrace.pipelines.study.page import markdown, write_page
from headrace.pipelines.study.run import Run
from headrace.pipelines.study.tables import tables
from headrace.schemas.errors import CorruptDataError, SettingsError
from headrace.schemas.url import parse_url

POINTS = 20
PNG = b"\x89PNG\r\n"


def made(arm, seed, level=87.0, rate=0.5, prints="f"):
    """A run whose evaluations approach a level, with a little noise of the seed's own."""
    rng = np.random.default_rng([seed, len(arm)])
    at = np.arange(1, POINTS + 1)
    level += float(rng.normal(0.0, 0.2))
    evaluation = level - 60.0 * np.exp(-rate * at)
    return Run(
        arm=arm,
        seed=seed,
        fingerprint=prints,
        weights_hash="0" * 64,
        steps=(at * 5_120).tolist(),
        evaluation=evaluation.tolist(),
        ended=[64] * POINTS,
        training=(evaluation - 1.0).tolist(),
        final=rng.normal(level, 10.0, 16).tolist(),
        train_cpu_s=10.0 + float(rng.normal()),
        train_wall_s=12.0,
        samples=1_000_000,
        judged_steps=1_280 if "advisor" in arm else 0,
        decision_us=[4.0, 5.0],
        directives=[],
    )


DESIGNS = {"dqn": {"budget": {"curve_traces": 16}}}
SHAPES = {"dqn": (87.0, 0.5), "ppo": (88.0, 0.8), "dqn+advisor": (87.0, 0.5), "dqn+schedule": (87.5, 1.0)}


@pytest.fixture(scope="module")
def runs():
    return [made(arm, seed, *shape) for arm, shape in SHAPES.items() for seed in range(1_000, 1_006)]


@pytest.fixture(scope="module")
def found(runs):
    return tables(runs, DESIGNS)


@pytest.mark.parametrize(
    ("values", "episodes", "converged"),
    [
        ([0, 5, 9.5, 10, 10, 10, 10, 10, 10, 10], 30, True),
        ([0, 5, 9.5, 8, 10, 10, 10, 10, 10, 10], 50, True),  # it left the band once more
        ([10] * 10, 10, True),
        ([0, 2, 4, 6, 8, 10, 12, 14, 16, 18], 100, False),  # still climbing: only its end is at its end's level
        ([0, 5, 11.5, 10, 10, 10, 10, 10, 10, 10], 40, True),  # above the band is outside it too
    ],
)
def test_convergence_by_hand(values, episodes, converged):
    """A point each 10 episodes, tolerance 1; the level is the last point."""
    found = measures.converged_at(list(range(10, 110, 10)), values, 1.0)
    assert (found.episodes, found.converged) == (episodes, converged)


def test_blocks_weigh_training_returns_by_their_episodes():
    run = made("dqn", 1)
    run.ended, run.training = [0, 128, 192, 64, 192, 100], [float("nan"), 10.0, 20.0, 0.0, 40.0, 7.0]
    ends, means = measures.blocks(run)
    assert ends == [320, 576]
    assert means == pytest.approx([(128 * 10 + 192 * 20) / 320, (192 * 40) / 256])
    run.ended, run.training = [0, 100], [float("nan"), 7.0]
    assert measures.blocks(run) == ([100.0], [7.0])


def test_sample_efficiency_is_the_first_evaluation_at_the_rules_level():
    run = made("dqn", 1)
    run.evaluation[:4] = [10.0, 83.0, 50.0, 84.0]
    assert measures.MEASURES["efficiency"].of(run, {"hpa_kubernetes": 83.0}) == pytest.approx(2 * 51.2)
    assert measures.MEASURES["efficiency"].of(run, {"hpa_kubernetes": 999.0}) == pytest.approx(POINTS * 51.2)


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path):
    run = made("dqn+advisor", 7)
    run.training[0] = float("nan")
    store.write(tmp_path, run)
    (back,) = store.read(tmp_path)
    assert np.isnan(back.training[0])
    back.training[0] = run.training[0] = 0.0
    assert back == run
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["dqn+advisor.7.parquet"]


def test_a_finished_run_is_known_and_one_of_another_design_refused(tmp_path):
    store.write(tmp_path, made("dqn", 7))
    assert store.finished(tmp_path, "dqn", 7, "f")
    assert not store.finished(tmp_path, "dqn", 8, "f")
    with pytest.raises(SettingsError, match="another design"):
        store.finished(tmp_path, "dqn", 7, "other")
    store.path_of(tmp_path / store.FOLDER, "dqn", 7).write_bytes(b"PAR1 no more")
    with pytest.raises(CorruptDataError, match="remove it"):
        store.finished(tmp_path, "dqn", 7, "f")


def test_reports_of_too_little_are_refused(runs):
    with pytest.raises(SettingsError, match="two arms"):
        tables([run for run in runs if run.arm == "dqn"], DESIGNS)
    with pytest.raises(SettingsError, match="1 common seeds"):
        tables([run for run in runs if run.arm == "dqn" or run.seed == 1_000], DESIGNS)
    with pytest.raises(SettingsError, match="several designs"):
        tables([*runs, made("dqn", 1_009, prints="g")], DESIGNS)
    with pytest.raises(SettingsError, match=r"design\.json"):
        tables(runs, {})


def test_seeds_that_an_arm_lacks_are_left_out(runs):
    assert tables(runs[:-1], DESIGNS)["seeds"] == list(range(1_000, 1_005))
    assert tables(runs[:-1], DESIGNS)["runs_left_out"] == 3


def test_tables_tell_what_the_runs_say(runs, found):
    """Means by hand; the better arm is told apart; two arms that are alike are not."""
    rows = {row["measure"]: row["arms"] for row in found["table1"]}
    mean = np.mean([np.mean(run.final) for run in runs if run.arm == "ppo"])
    assert rows["final"]["ppo"]["mean"] == pytest.approx(mean)
    assert rows["episodes"]["ppo"]["mean"] < rows["episodes"]["dqn"]["mean"]
    assert rows["episodes"]["dqn"]["converged"] == 6
    pairs = {(row["measure"], row["first"], row["second"]): row for row in found["table4"]["pairwise"]}
    assert pairs["episodes", "dqn", "ppo"]["p_holm"] < 0.01
    assert pairs["episodes", "dqn", "ppo"]["greater"] == 1.0
    assert len(pairs) == 3 * 6
    assert all(row["p_holm"] >= row["p_fdr"] >= row["p"] for row in pairs.values())
    assert found["kpis"]["dqn"]["convergence_rate"] == 1.0
    assert found["kpis"]["dqn+advisor"]["judged_episodes"] == 12.8
    json.dumps(found)


def test_arms_that_are_the_same_differ_by_nothing(runs):
    """An advisor that says nothing leaves DQN as it is: 0 with p 1, and no test fails."""
    same = [run for run in runs if run.arm == "dqn"]
    other = [made("dqn", run.seed) for run in same]
    for run in other:
        run.arm = "dqn+schedule"
    (row, *_) = tables([*same, *other], DESIGNS)["table4"]["pairwise"]
    assert (row["difference"], row["p"], row["p_holm"], row["greater"]) == (0.0, 1.0, 1.0, 0.5)


def test_the_page_has_every_table_and_figure(runs, found, tmp_path):
    written = write_page(tmp_path / "study.md", found, runs)
    text = (tmp_path / "study.md").read_text()
    for heading in ("Table 1", "Figure 1", "Table 4", "KPIs", "Beside the paper"):
        assert f"## {heading}" in text
    assert {path.name for path in written} >= {"learning_curves.png", "differences.png", "final_returns.png"}
    assert all(f"(study/{path.name})" in text for path in written if path.suffix == ".png")
    assert "nan" not in text
    assert "None" not in text
    assert sorted(run.seed for run in store.read(tmp_path / "study")) == sorted(run.seed for run in runs)


def test_advisers_are_compared_with_none_chance_and_the_rules(runs, found, tmp_path):
    """On the seeds that both have, beside the tables, which stay as they are; the page tells it, and who advised."""
    assert found["help"] == []
    rivals = [made("dqn+random", seed, 87.0) for seed in range(1_000, 1_006)]
    rivals += [made("dqn+llm", seed, 89.0) for seed in range(1_002, 1_005)]
    rivals += [made("dqn+llm-random", seed, 87.0) for seed in range(1_003, 1_005)]
    for run in rivals:
        run.judged_steps = 1_280
    rivals += [made("dqn+scenarios", seed) for seed in range(1_000, 1_003)]
    told = tables([*runs, *rivals], DESIGNS)
    assert told["arms"] == found["arms"]
    assert told["table4"] == found["table4"]
    assert told["runs_left_out"] == 0
    rows = {(row["measure"], row["first"], row["second"]): row for row in told["help"]}
    assert len(rows) == 3 * 9
    assert set(told["advisor"]) == {"dqn+advisor", "dqn+random", "dqn+llm", "dqn+llm-random"}
    row = rows["final", "dqn+llm", "dqn+random"]
    ours = {
        arm: {run.seed: np.mean(run.final) for run in [*runs, *rivals] if run.arm == arm}
        for arm in (row["first"], row["second"])
    }
    assert row["n"] == 3
    assert row["difference"] == pytest.approx(
        np.mean([ours["dqn+llm"][s] - ours["dqn+random"][s] for s in (1_002, 1_003, 1_004)])
    )
    assert rows["final", "dqn+advisor", "dqn"]["n"] == 6
    assert all(one["p_holm"] >= one["p"] for one in rows.values())
    assert told["advisor"]["dqn+llm"]["judged_episodes"] == 12.8
    text = markdown(told, "study")
    chance = "DQN + as many random directives as the model's"
    for words in (
        "## Do advice and scenarios help?",
        "DQN + language model less DQN + random directives | 3 |",
        "as an adviser, better than none?** DQN + language model less DQN, 3 seeds: ",
        f"as an adviser, better than chance?** DQN + language model less {chance}, 2 seeds: ",
        "(`dqn+random`)",
    ):
        assert words in text
    assert "An LLM is not what was run here" not in text
    assert "An LLM is not what was run here" in markdown(found, "study")


def test_equal_tables_give_equal_bytes(found):
    first, second = figures(found), figures(found)
    assert first == second
    assert all(picture.startswith(PNG) for picture in first.values())
    assert markdown(found, "x") == markdown(found, "x")


def test_the_papers_arithmetic_is_told(found):
    told = {(row["measure"], row["reading"]): row["f"] for row in found["paper"]["arithmetic"]}
    assert told["episodes", "standard deviation"] == pytest.approx(805.0, abs=0.1)
    assert told["episodes", "standard error"] == pytest.approx(40.3, abs=0.05)
    assert all(abs(f - paper.F) > 5 for f in told.values())
    assert found["paper"]["eta_squared_from_f"] == pytest.approx(paper.ETA_SQUARED, abs=0.005)


def test_verdicts_beside_the_paper(found):
    """PPO is faster than DQN here as in the paper, where its training is the shorter too; equal arms are undecided."""
    verdicts = {(row["measure"], row["first"], row["second"]): row["verdict"] for row in found["agreement"]}
    assert verdicts["episodes", "dqn", "ppo"] == "agrees"
    assert verdicts["level", "dqn", "ppo"] == "agrees"
    assert verdicts["level", "dqn", "dqn+advisor"] == "undecided"
    assert len(verdicts) == 12


def test_a_verdict_turns_over_with_our_arms():
    """Where our DQN is the faster and the higher, the paper's order is contradicted."""
    runs = [made(arm, seed, *shape) for arm, shape in {"dqn": (88.0, 0.8), "ppo": (87.0, 0.5)}.items()
            for seed in range(1_000, 1_006)]  # fmt: skip
    verdicts = {row["measure"]: row["verdict"] for row in tables(runs, DESIGNS)["agreement"]}
    assert verdicts["episodes"] == verdicts["level"] == "disagrees"


def test_the_papers_figures_are_labelled_with_its_arms(found):
    """Its table 1, by arm: PPO is first in every column, DQN + LLM second, DQN last."""
    told = {row["measure"]: row["paper"] for row in found["table1"] if row["paper"]}
    assert told["episodes"] == {
        "dqn": {"mean": 680, "spread": 25},
        "ppo": {"mean": 420, "spread": 18},
        "dqn+advisor": {"mean": 610, "spread": 20},
    }
    assert told["level"]["ppo"] == {"mean": 225, "spread": 8}
    for measure, by_arm in told.items():
        order = sorted(by_arm, key=lambda arm: by_arm[arm]["mean"], reverse=measure == "level")
        assert order == ["ppo", "dqn+advisor", "dqn"]


def test_arms_differ_in_what_they_should_alone():
    """The advisor starts from DQN's own settings; the control is DQN but for its schedule."""
    assert design.arm("dqn").training == design.arm("dqn+advisor").training
    plain, control = design.arm("dqn").training, design.arm("dqn+schedule").training
    applied = {"learning_rate", "learning_rate_final", "epsilon_end", "explore_rule", "explore_share"}
    differing = {name for name, value in vars(plain.config).items() if value != getattr(control.config, name)}
    assert differing <= applied
    assert design.scheduled(design.FixedSchedule()) == plain
    ppo = design.arm("ppo").training
    assert not any((plain.informed, plain.shadowed, plain.prior, ppo.informed, ppo.privileged))
    chance, llm = design.arm("dqn+random"), design.arm("dqn+llm", parse_url("openai:m?base_url=http://h/v1&key_file=k"))
    assert chance.training == llm.training == plain
    assert chance.cadence == llm.cadence == design.arm("dqn+advisor").cadence
    assert design.described(llm, design.Budget())["advisor"] == "openai:m?base_url=http://h/v1"
    assert "advisor" not in design.described(design.arm("dqn+advisor"), design.Budget())
    with pytest.raises(SettingsError, match="choose among"):
        design.arm("sarsa")
    for nobody, name in ((None, "dqn+llm"), (parse_url("rules:"), "dqn+llm"), (None, "dqn+llm-scenarios")):
        with pytest.raises(SettingsError, match="name it by --advisor"):
            design.arm(name, nobody)
    assert design.arm("dqn+drawn").scenarios(3) == design.arm("dqn+drawn").scenarios(3)
    assert design.arm("dqn+drawn").scenarios(3) != design.arm("dqn+drawn").scenarios(4)
    assert (chance.scenarios(3), plain) == ((), design.arm("dqn+drawn").training)


def test_a_fingerprint_tells_designs_apart():
    budget = design.Budget()
    prints = {
        design.fingerprint(design.described(design.arm("dqn"), budget)),
        design.fingerprint(design.described(design.arm("dqn+advisor"), budget)),
        design.fingerprint(design.described(design.arm("dqn"), design.Budget(steps=51_200))),
        design.fingerprint(design.described(design.arm("dqn+random"), budget)),
        *(design.fingerprint(design.described(design.arm("dqn+llm", parse_url(f"openai:{m}")), budget))
          for m in ("a", "b", "a?base_url=http://h/v1", "a?base_url=http://g/v1")),
        design.fingerprint(design.described(design.arm("dqn+llm-random", parse_url("openai:a")), budget)),
    }  # fmt: skip
    assert len(prints) == 9
    with pytest.raises(SettingsError, match="multiple of 25600"):
        design.Budget(steps=30_000)


def test_what_the_search_found_is_what_it_would_try_again():
    assert search.candidates() == search.candidates()
    assert design.BEST_SCHEDULE in search.candidates().values()
    assert design.BEST_CADENCE in search.cadences().values()
