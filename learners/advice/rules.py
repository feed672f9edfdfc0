"""The advisor of rules: deterministic, no service, no state. A rule reads facts and names one change with its reason.

Thresholds are orders of magnitude, set once and not tuned to any task: a change that does not help is undone by the
gate's next verdicts (`consult`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.schemas.directives import ACTIONS, PROPOSALS_MAX, LearningFacts, Proposal, described, key_of
from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.scenarios import Scenario, Variations, proposed

FLAT: Final = 0.01
"""Returns whose spread is a smaller part of their size do not move."""
TREND_VERSIONS: Final = 3


@dataclass(frozen=True, slots=True)
class AdviceRule:
    """When the facts are so, change a setting to a value; evidence: the facts that the reason states."""

    name: str
    when: Callable[[LearningFacts], bool]
    change: str
    to: Callable[[LearningFacts, float], float]
    words: str
    evidence: tuple[str, ...]
    target: Callable[[LearningFacts], str] = lambda _: ""

    def proposal(self, facts: LearningFacts) -> Proposal | None:
        """Return what the rule proposes, None where it has nothing to say or no room to say it in."""
        if not self.when(facts):
            return None
        target = self.target(facts)
        now = facts.settings.get(key_of(self.change, target))
        if now is None:
            return None
        action = ACTIONS[self.change]
        value = min(max(self.to(facts, now), action.low), action.high)
        reason = f"{self.words}: {described(facts, self.evidence)}"
        return None if value == now else Proposal(self.change, value, target, reason)


def errors_explode(facts: LearningFacts) -> bool:
    """Whether updates were skipped, or the error doubled since the version before."""
    before = facts.td_abs_before
    return facts.skipped_updates > 0 or (before is not None and (facts.td_abs or 0.0) > 2.0 * before > 0.0)


def return_sinks(facts: LearningFacts) -> bool:
    """Whether the return fell twice in a row, by more than it wavers."""
    last = facts.returns[-TREND_VERSIONS:]
    return len(last) == TREND_VERSIONS and last[0] > last[1] > last[2] and not return_rests(facts)


def return_rests(facts: LearningFacts) -> bool:
    """Whether the last versions' returns lie within FLAT of their size."""
    last = facts.returns[-TREND_VERSIONS:]
    return len(last) == TREND_VERSIONS and max(last) - min(last) <= FLAT * max(map(abs, last))


def below_floor(facts: LearningFacts) -> bool:
    """Whether no version kept has reached the floor baseline, two being there."""
    return len(facts.returns) >= 2 and facts.floor is not None and max(facts.returns) < facts.floor


def one_action(facts: LearningFacts) -> bool:
    """Whether nearly all decisions were the same, with next to no exploration."""
    return bool(facts.actions) and max(facts.actions) > 0.9 and facts.exploration < 0.1


def best_rule(facts: LearningFacts) -> str:
    """Return the decision rule with the highest return, "" without any."""
    return max(facts.rules, key=facts.rules.__getitem__, default="")


def followed_rule(facts: LearningFacts) -> str:
    """Return the rule that exploration follows now, "" for none."""
    shares = {key.partition(".")[2]: value for key, value in facts.settings.items() if key.startswith("explore_rule.")}
    return next((rule for rule, share in shares.items() if share > 0.0), "")


def rule_is_outgrown(facts: LearningFacts) -> bool:
    """Whether the newest version is at least as good as the rule that exploration follows."""
    return bool(facts.returns) and facts.returns[-1] >= facts.rules.get(followed_rule(facts), float("inf"))


def fallen_term(facts: LearningFacts) -> str:
    """Return the reward term whose mean fell most, and by more than a tenth of its size; "" for none."""
    before = facts.terms_before
    falls = {name: before[name] - mean for name, mean in facts.terms.items() if name in before}
    worst = max(falls, key=falls.__getitem__, default="")
    return worst if worst and falls[worst] > 0.1 * abs(before[worst]) > 0.0 else ""


RULES: Final = (
    AdviceRule("explode", errors_explode, "learning_rate", lambda _, now: now / 2,
         "updates are too long", ("skipped_updates", "td_abs", "td_abs_before")),
    AdviceRule("sink", return_sinks, "learning_rate", lambda _, now: now / 2,
         "the return sinks", ("returns",)),
    AdviceRule("lost", lambda f: below_floor(f) and not followed_rule(f) and bool(best_rule(f)),
         "explore_rule", lambda _, now: now + 0.4,
         "no version reaches the floor, a known rule shows where to look", ("returns", "floor", "rules"), best_rule),
    AdviceRule("outgrown", lambda f: bool(followed_rule(f)) and rule_is_outgrown(f),
         "explore_rule", lambda _, now: now - 0.4,
         "the policy has outgrown the rule that it explored with", ("returns", "rules"), followed_rule),
    AdviceRule("stuck", one_action, "epsilon_end", lambda _, now: now * 2,
         "nearly every decision is the same", ("actions", "exploration")),
    AdviceRule("fallen", lambda f: bool(fallen_term(f)) and (return_rests(f) or return_sinks(f)),
         "shaping", lambda _, now: now + 0.1,
         "one part of the reward fell", ("terms", "terms_before"), fallen_term),
)  # fmt: skip
"""In the order of their urgency."""


class RuleAdvisor(Backend):
    """The table of rules behind the advisor's port."""

    name = "rules:"

    def propose(self, facts: LearningFacts) -> list[Proposal]:
        """Return at most PROPOSALS_MAX changes, each setting once."""
        found: dict[str, Proposal] = {}
        for rule in RULES:
            proposal = rule.proposal(facts)
            if proposal:
                found.setdefault(key_of(proposal.change, proposal.target), proposal)
        return list(found.values())[:PROPOSALS_MAX]

    def scenarios(self, variations: Variations) -> Sequence[Scenario]:
        """Return the extremes at which most return is lost."""
        ranked = sorted(variations.losses, key=lambda one: one.loss, reverse=True)
        return proposed([{one.name: one.value} for one in ranked], variations.bounds)


ADAPTER: Final = Adapter(lambda *_: RuleAdvisor(), ("mode", "every"))
