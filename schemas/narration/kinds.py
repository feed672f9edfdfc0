"""What each fact is, in headrace's own words: a language model is told a fact's kind, never its label.

A pattern is a fact's id with slots. `{s}` (a situation), `{d}` (a dimension of actions), `{n}` (a place in a list),
`{job}`, `{dependency}` and `{rival}` are of headrace's own vocabulary, the last where it is one of RIVALS. `{name}`
comes from whoever wrote the task or the data: a term, an action, a feature, a version. The first pattern that matches
counts.
"""

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple, get_args

from headrace.schemas.records import Dependency, JobName

Role = Literal["verdict", "whole", "part", "share", "context"]
"""verdict: what a report is about, said whatever its size. whole: a difference in what is optimised. part: one in what
adds up to it, or beside it. share: how much of a total. context: what others are measured by, or where they come from.
"""

RIVALS: Final = frozenset({"serving", "best", "floor", "agents", "policy", "random", "constant"})
"""Controllers that headrace itself names, whatever the task."""


class Kind(NamedTuple):
    """What facts are. of: the fact, a count, that theirs are counted out of; "" where there is none.

    also: words that a sentence on them may have, beside those of the name and the meaning.
    """

    name: str
    meaning: str
    role: Role = "context"
    of: str = ""
    also: str = ""


class Piece(NamedTuple):
    """A part of a fact's id. foreign: whether it comes from whoever wrote the task or the data."""

    text: str
    foreign: bool


OTHER: Final = Kind("other", "a number of the report")

KINDS: Final[dict[str, Kind]] = {
    # A version: who it is, and how it was let serve.
    "version.policy": Kind("version", "the version that this report is about"),
    "version.previous": Kind("version before", "the version that served before it"),
    "training.steps": Kind("experience", "steps of experience so far, of all versions together"),
    "training.updates": Kind("updates", "updates of the network so far, of all versions together"),
    "training.rows": Kind("new rows", "rows that were new to this version when it was trained"),
    "judged.gate": Kind("tested", "a gate tested this version in a simulator and let it serve"),
    "judged.close": Kind("tested, close", "the gate let it serve as close enough to the best version"),
    "judged.data": Kind("judged by data", "no simulator tested it; the gate estimated its return from recorded rows"),
    "judged.canary": Kind("tried by canary", "a part of the agents tried it before it came to serve all"),
    "judged.untested": Kind("untested", "the settings let it serve without a test", also="any"),
    "judged.person": Kind("let serve by a person", "a person let it serve"),
    "judged.overruled": Kind("overruled", "a person let it serve though the gate had refused it"),
    "refusals.count": Kind("refusals", "candidates in a row that the gate refused", "part", also="rejected"),
    "weights.back": Kind("went back", "the version to whose weights learning went back after refusals"),
    "gate.rows": Kind("gate's rows", "recorded rows that the gate's estimate rests on"),
    # Returns on fixed traces.
    "traces.count": Kind("traces", "fixed traces, unseen in training, on which the returns were measured"),
    "comparisons.count": Kind("comparisons", "comparisons that were corrected for together"),
    "return.vs-clairvoyant": Kind(
        "distance to the bound",
        "difference in return to a bound that knows the future; no real rival",
        also="any",
    ),
    "return.vs-{rival}": Kind(
        "difference in return",
        "the version's return less that of a rival on the same traces: up is better than the rival, down is worse",
        "whole",
    ),
    "return.policy": Kind("return", "the version's own mean return"),
    "return.{rival}": Kind("return of a rival", "a rival's own mean return"),
    # Outcomes: numbers that people know the task by.
    "outcome.{name}.vs-{rival}": Kind(
        "difference in an outcome",
        "an outcome, the version's less a rival's on the same traces; better says whether lower or higher is good",
        "whole",
    ),
    "outcome.{name}.change": Kind(
        "change in an outcome",
        "an outcome against the interval before; better says whether lower or higher is good",
        "whole",
    ),
    "outcome.{name}.{rival}": Kind("outcome of a rival", "an outcome of a rival on the same traces"),
    "outcome.{name}": Kind("outcome", "a number that people know the task by"),
    "term.{name}.vs-{rival}": Kind(
        "difference in a part of the return",
        "one part of the return, the version's less a rival's: up is better in this part, down is worse in it",
        "part",
    ),
    "observed.{name}": Kind("earned", "what agents really earned by a version, exploration and all"),
    # What a version does.
    "actions.drawn": Kind("drawn", "agents draw its actions; the ones named are its most likely ones"),
    "decisions.count": Kind("decisions", "decisions that were looked at", also="all"),
    "situation.{s}": Kind("situation", "decisions in which a situation holds", "share", "decisions.count"),
    "situations.explained": Kind("explained", "share of its decisions that the situations alone account for"),
    "action.{s}.{d}": Kind("mean action", "mean of an action's dimension in a situation"),
    "action.{s}.{name}": Kind("action in a situation", "share of a situation's decisions that take an action", "share"),
    "margin.{s}": Kind("margin", "in a situation, by how much the best action leads the next; large is clear"),
    "relies.{name}": Kind("reliance", "share of what the decisions rely on that is one observation's", "share"),
    "differs.{rival}": Kind("differs", "share of decisions in which a rival would do otherwise", "share"),
    "differs.{rival}.switch": Kind(
        "commonest difference", "share of decisions that differ in the way that is seen most often", "share"
    ),
    "differs.{rival}.larger": Kind("larger step", "share of decisions with a larger step than a rival's", "share"),
    "differs.{rival}.smaller": Kind("smaller step", "share of decisions with a smaller step than a rival's", "share"),
    "differs.{rival}.{s}": Kind(
        "differs in a situation", "share of a situation's decisions that a rival would not take", "share"
    ),
    "saturation.{d}.lowest": Kind("at its lowest", "share of decisions at the lower bound of the action", "share"),
    "saturation.{d}.highest": Kind("at its highest", "share of decisions at the upper bound of the action", "share"),
    "smoothness.{d}": Kind(
        "move", "mean move of the action from one step to the next, of its range", "share", also="each"
    ),
    "apart.{rival}": Kind("distance", "mean distance from what the version before would do, of the range", "share"),
    # An interval: what came in.
    "rows.total": Kind("rows", "transitions that came in"),
    "rows.change": Kind("change in rows", "rows against the interval before: volume, not merit", "part"),
    "agents.total": Kind("agents", "agents that sent transitions"),
    "episodes.ended": Kind("episodes", "episodes that ended"),
    "rows.duplicates": Kind("duplicates", "rows that came again and were dropped", "share", "rows.total"),
    "rows.late": Kind("late rows", "rows that came after their window was first closed", "share", "rows.total"),
    "rows.unreported": Kind("unreported", "windows of earlier intervals that came too late for their own report"),
    "reward.mean": Kind("mean reward", "mean reward per step in the interval, of all agents, exploration and all"),
    "reward.change": Kind("change in reward", "mean reward per step against the interval before", "whole"),
    "term.{name}.mean": Kind("mean of a part", "mean per step of one part of the reward"),
    "term.{name}.change": Kind(
        "change in a part of the reward", "one part of the reward per step, against the interval before", "part"
    ),
    "version.{name}.share": Kind("version at work", "share of the transitions that a version made", "share"),
    "version.{name}.reward": Kind("reward of a version", "mean reward per step where a version served alone"),
    "versions.changed": Kind(
        "versions changed", "versions at work in one of two intervals but not in both", "part", also="only"
    ),
    "earned.change": Kind(
        "change in earnings", "what agents earned by the newer version less what they earned by the older", "whole"
    ),
    "shift.{name}.{name}": Kind("shift", "under one version, the share of the action that changed most", "share"),
    "action.{name}": Kind("action", "share of the actions taken", "share"),
    "taken.{d}": Kind("mean action taken", "mean of an action's dimension in a sample of the rows"),
    "rejected.total": Kind("rejected", "messages of all tasks that were rejected as bad data", "share", "rows.total"),
    "rejected.{name}": Kind(
        "rejected by rule", "messages that one rule rejected as bad data", "share", "rejected.total"
    ),
    # One decision.
    "decision.taken": Kind("action taken", "the action that was taken in the decision asked about", "verdict"),
    "decision.taken.{d}": Kind("action taken", "one dimension of the action that was taken", "verdict"),
    "decision.version": Kind("version asked", "the version that is asked about the decision"),
    "decision.value": Kind("value", "what the version expects of the action taken"),
    "decision.probability": Kind("probability", "with which the version draws the action taken"),
    "decision.density": Kind("log-density", "of the action taken; large is likely"),
    "decision.best": Kind("best action", "what the version holds for best, where another action was taken"),
    "decision.best.{d}": Kind("best action", "one dimension of what the version holds for best"),
    "decision.apart.{d}": Kind("distance from the best", "how far the action lies from the version's best"),
    "decision.room.{d}": Kind("distance from a bound", "how far the action lies from the nearest bound"),
    "decision.change": Kind(
        "difference to the usual",
        "by how much the choice is clearer (up) or less clear (down) than in a typical situation",
    ),
    "decision.otherwise": Kind("action otherwise", "what the version would hold for best at the counterfactual"),
    "decision.distance": Kind(
        "distance of the counterfactual", "how far it lies from what was seen, of the usual range"
    ),
    "decision.firm": Kind("firm", "observations, no change of which within the usual range gave another action"),
    "counterfactual.{name}": Kind(
        "counterfactual", "the nearest value of a feature at which it would act otherwise", "verdict"
    ),
    "attribution.{name}": Kind("attribution", "how much a feature spoke for the action (up) or against (down)", "part"),
    "seen.{name}": Kind("observation", "the value of a feature that was seen"),
    "typical.{name}": Kind("usual observation", "the mean value of a feature in recent rows"),
    "path.fidelity": Kind("fidelity", "share of held-out decisions that a small tree imitates rightly"),
    "path.action": Kind("imitation", "what a small tree that imitates the version says of this decision"),
    "path.{n}.{name}": Kind("condition", "a threshold on the path of a small tree that imitates the version"),
    "similar.count": Kind("similar decisions", "past decisions like this one that were looked up", also="all"),
    "similar.same": Kind("same action", "share of the similar past decisions that took the same action", "share"),
    "similar.reward": Kind("reward of the same", "mean reward that followed where the same action was taken"),
    "similar.otherwise": Kind("reward of others", "mean reward that followed where another action was taken"),
    "similar.{n}.reward": Kind("similar decision", "the reward that followed one past decision like this one"),
    "similar.{n}.distance": Kind("distance of a similar decision", "how far it lies from this one; near is alike"),
    "margin.{name}": Kind("lead", "by how much the value of the action taken leads another action's"),
    "rule.{rival}": Kind("rule's action", "what a rule would have done in this decision"),
    # A question.
    "asked.serving": Kind("serving version", "the version that serves now", "verdict"),
    "asked.health": Kind("rows of the time", "rows that the index has of the time asked about"),
    "asked.activity": Kind("rows of the time", "transitions of the time and the agents asked about"),
    "asked.{name}": Kind("version asked about", "the version that was asked about"),
    "verdict.{name}": Kind("verdict", "whether the version was let serve, and by whom", "verdict"),
    "serving.decided": Kind("let serve by", "who or what let the version serve"),
    "serving.before": Kind("served before", "the version that served before the one that serves"),
    "serving.other": Kind("does not serve", "a version asked about, which does not serve", "verdict"),
    "serving.agent": Kind("acts by", "the version that an agent asked about acts by", "verdict"),
    "serving.canary": Kind("canary", "a version that a part of the agents tries"),
    "serving.share": Kind("share that tries it", "share of the agents that try the canary", "share"),
    "serving.held": Kind("on hold", "promotion is on hold, and the serving version stays"),
    "count.taken": Kind("times taken", "how often the action asked about was taken", "verdict"),
    "directives.proposed": Kind("proposals", "changes of learning that an advisor proposed, and none made", "part"),
    # How the jobs ran.
    "operations.runs": Kind("runs", "processes of headrace's jobs that told of themselves"),
    "operations.promotions": Kind("promotions", "versions that came to serve in the interval"),
    "operations.rollbacks": Kind("rollbacks", "times that an earlier version came to serve again, or none", "part"),
    "operations.starts.{job}": Kind("starts", "how often a job was started"),
    "operations.failures.{job}": Kind("failures", "runs of a job that failed or were killed", "part"),
    "operations.fenced.{job}": Kind("fenced", "commits of a job that the log refused, as another process had gone on"),
    "operations.lag.{job}": Kind("lag", "messages that a run of a job had yet to read, at most"),
    "operations.outage.{dependency}": Kind("outage", "seconds for which what the jobs need did not answer", "part"),
    "operations.outages.{dependency}": Kind("outages", "how often what the jobs need did not answer"),
    "operations.longest.{dependency}": Kind("longest outage", "seconds of the longest of its outages"),
}
"""By pattern: what facts of such an id are."""

_NAME: Final = "[A-Za-z0-9_-]+"
_SLOTS: Final = {
    "{s}": "s[0-9]{1,2}",
    "{d}": "d[0-9]{1,2}",
    "{n}": "[0-9]{1,2}",
    "{job}": "|".join(get_args(JobName)),
    "{dependency}": "|".join(get_args(Dependency)),
    "{rival}": _NAME,
    "{name}": _NAME,
}


def _compiled(pattern: str) -> tuple[re.Pattern[str], list[str]]:
    tokens = [token for token in re.split(r"(\{\w+\})", pattern) if token]
    groups = "".join(f"({_SLOTS.get(token) or re.escape(token)})" for token in tokens)
    return re.compile(groups), tokens


_COMPILED: Final = [(*_compiled(pattern), kind) for pattern, kind in KINDS.items()]

_OTHERS: Final = (
    (re.compile(r"term\.[^.]+\.(vs-.+)"), r"return.\1"),
    (re.compile(r"outcome\.[^.]+\.(vs-.+)"), r"return.\1"),
    (re.compile(r"action\.(s[0-9]+)\..+"), r"situation.\1"),
    (re.compile(r"(differs\.[^.]+)\..+"), r"\1"),
)
"""Ids of facts whose label names one of two things, and the fact whose label names the other."""


def other_of(fact_id: str) -> str | None:
    """Return the id of the fact whose label names what this one's does not; None where one name is all."""
    matches = ((pattern.fullmatch(fact_id), named) for pattern, named in _OTHERS)
    return next((match.expand(named) for match, named in matches if match), None)


@lru_cache(4096)
def parsed(fact_id: str) -> tuple[Kind, tuple[Piece, ...]]:
    """Return what a fact is and its id in pieces; of an id that no pattern matches, OTHER, and all of it foreign."""
    for regex, tokens, kind in _COMPILED:
        match = regex.fullmatch(fact_id)
        if match:
            return kind, tuple(map(_piece, match.groups(), tokens))
    return OTHER, (Piece("other.", foreign=False), Piece(fact_id, foreign=True))


def _piece(text: str, slot: str) -> Piece:
    return Piece(text, slot == "{name}" or (slot == "{rival}" and text not in RIVALS))


def kind_of(fact_id: str) -> Kind:
    """Return what a fact is."""
    return parsed(fact_id)[0]
