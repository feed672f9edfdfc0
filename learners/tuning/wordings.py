"""Wordings that a model is first tuned on: by kind of fact and stance, what says it.

`[a/b]` is one of the alternatives; what stands between `<` and `>` is there where the sentence names another thing,
`{other}`, and `{rival}` is that or "the rival". `{}` is the number, without its sign where it fell.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Final

from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.question import Stance, stance_of
from headrace.schemas.narration.single import placeholders
from headrace.schemas.records import Fact

LEVEL: Final[Mapping[str, tuple[str, ...]]] = {
    "version": ("This [report/text] is on {}.", "The version [told of/described] here is {}."),
    "version before": ("The version before it [was/is] {}.", "The version that served before it is {}."),
    "experience": (
        "All versions together have learned from {} so far.",
        "The experience of all versions together is {}.",
    ),
    "updates": ("The network has had {} so far.", "All versions together took {} of the network."),
    "new rows": ("In training, {} were new to it.", "It was trained on {} that were new to it."),
    "tested": (
        "A gate tested {} in a simulator and let it serve.",
        "In a simulator, a gate tested {} and let it serve.",
    ),
    "tested, close": (
        "The gate let {} serve as close enough to the best version.",
        "As close enough to the best version, {} was let serve by the gate.",
    ),
    "judged by data": (
        "No simulator tested {}, so the gate judged it by recorded rows.",
        "From recorded rows alone, the gate estimated what {} earns.",
    ),
    "tried by canary": (
        "A part of the agents tried {} before it came to serve all.",
        "Before {} served all agents, a part of them tried it.",
    ),
    "untested": ("The settings let {} serve without a test.", "Without any test, the settings let {} serve."),
    "let serve by a person": ("A person let {} serve.", "It was a person that let {} serve."),
    "overruled": (
        "A person let {} serve, though the gate had refused it.",
        "Though the gate had refused {}, a person let it serve.",
    ),
    "refusals": ("The gate [refused/rejected] {} in a row.", "In a row, the gate [refused/rejected] {}."),
    "went back": (
        "After refusals, learning went back to the weights of {}.",
        "Learning went back to the weights of {} after refusals.",
    ),
    "gate's rows": ("The estimate of the gate rests on {}.", "What the gate estimates rests on {}."),
    "traces": (
        "Returns were measured on {} that training had not seen.",
        "For the returns, {} unseen in training were played.",
    ),
    "comparisons": (
        "What is called a difference here was corrected for {}.",
        "As they are many, {} were corrected for together.",
    ),
    "return": ("On average it earns {}.", "Its own return is {} on average."),
    "return of a rival": ("On average {name} earns {}.", "The return of {name} is {} on average."),
    "earned": (
        "Agents that acted by {name} [earned/really earned] {}.",
        "With exploration and all, agents earned {} by {name}.",
    ),
    "drawn": (
        "Agents draw the actions of {}, and those named here are its most likely ones.",
        "The actions named of {} are its most likely ones, as agents draw them.",
    ),
    "decisions": ("In all, {} were looked at.", "What it does was looked at in {}."),
    "situation": ("The situation {name} holds in {}.", "In {} the situation is {name}."),
    "explained": (
        "The situations alone account for {} of its decisions.",
        "Of its decisions, {} are accounted for by the situations alone.",
    ),
    "mean action": (
        "On average {name} is {}< where {other}>.",
        "The mean of {name} is {}< where {other}>.",
    ),
    "action in a situation": (
        "<Where {other}, >it takes action {name} in {} of decisions.",
        "It [takes/chooses] action {name} in {} of decisions< where {other}>.",
    ),
    "margin": (
        "Where {name}, the best action leads the next by {}.",
        "The best action leads the next by {} where {name}.",
    ),
    "differs": (
        "In {} of decisions {name} would do otherwise.",
        "It decides otherwise than {name} in {} of decisions.",
    ),
    "commonest difference": (
        "The commonest difference< from {other}> is {name}, in {} of decisions.",
        "Most often it takes {name}< where {other} would not>, in {} of decisions.",
    ),
    "larger step": (
        "In {} of decisions the difference< from {other}> is a {name}.",
        "Decisions with a {name}< than {other} would take> come to {}.",
    ),
    "smaller step": (
        "In {} of decisions the difference< from {other}> is a {name}.",
        "Decisions with a {name}< than {other} would take> come to {}.",
    ),
    "differs in a situation": (
        "Where {name}, {rival} would [do/act] otherwise in {} of decisions.",
        "In {} of decisions {rival} would [do/act] otherwise where {name}.",
    ),
    "at its lowest": (
        "In {} of decisions {name} lies at its lowest value.",
        "The lowest value of {name} is taken in {} of decisions.",
    ),
    "at its highest": (
        "In {} of decisions {name} lies at its highest value.",
        "The highest value of {name} is taken in {} of decisions.",
    ),
    "move": (
        "From each step to the next {name} moves by {} of its range on average.",
        "On average {name} moves by {} of its range from step to step.",
    ),
    "distance": (
        "What {name} would do lies {} of the range away on average.",
        "On average the action of {name} lies {} of the range away.",
    ),
    "rows": ("In the interval {} came in.", "Agents sent {} in the interval."),
    "agents": ("Transitions came from {}.", "In the interval {} sent transitions."),
    "episodes": ("In the interval {} ended.", "There were {} that ended in the interval."),
    "duplicates": ("As duplicates, {} came again.", "There were {} that came again as duplicates."),
    "late rows": ("After their window was closed, {} came in.", "It is late that {} came, as their window was closed."),
    "unreported": (
        "After their own report came {} of earlier intervals, late.",
        "Of earlier intervals, {} came late for their own report.",
    ),
    "mean reward": ("The mean reward was {}.", "On average the reward was {}."),
    "mean of a part": ("The mean of the {name} part of the reward was {}.", "On average the {name} part was {}."),
    "version at work": ("By {name} were made {} of the transitions.", "Of the transitions, {} were made by {name}."),
    "reward of a version": (
        "Where {name} served alone, the mean reward was {}.",
        "The mean reward was {} where {name} served alone.",
    ),
    "versions changed": (
        "Between this interval and the last, {} came or went.",
        "At work in only this interval or the last were {}.",
    ),
    "shift": (
        "Under the same version, {name} took {} of the actions.",
        "The share of {name} was {} of actions under the same version.",
    ),
    "action": ("Of the actions taken, {} were {name}.", "Agents took {name} in {} of actions."),
    "mean action taken": ("In a sample of the rows {name} was {} on average.", "On average {name} taken was {}."),
    "rejected": ("The rules rejected {} as bad data.", "Rejected as bad data [are/were] {}."),
    "rejected by rule": ("Of what was rejected, {} are by {name}.", "By {name} were rejected {}."),
    "action taken": (
        "The number of the action taken is {}.",
        "The action taken has the number {}.",
        "The action taken has {name} at {}.",
        "As the action was taken, {name} was {}.",
    ),
    "version asked": ("The version asked is {}.", "It is {} that was asked."),
    "value": ("From the action taken it expected {}.", "The value of the action taken was {}."),
    "probability": (
        "It draws the action taken with a probability of {}.",
        "The probability of the action taken was {}.",
    ),
    "log-density": ("The log-density of the action taken is {}.", "For the action taken the log-density is {}."),
    "best action": (
        "It holds the action with number {} for best.",
        "The number of the best action is {}.",
        "It holds {name} at {} for best.",
        "At its best {name} would be {}.",
    ),
    "distance from the best": (
        "The distance of {name} from the best was {}.",
        "From what it holds for best {name} lay {} away.",
    ),
    "distance from a bound": ("The nearest bound of {name} was {} away.", "From its bound {name} lay {} away."),
    "action otherwise": (
        "The number of the action otherwise is {}.",
        "At the counterfactual it would take the action with number {}.",
    ),
    "distance of the counterfactual": (
        "The counterfactual lies {} of the usual range away.",
        "From what was seen the counterfactual lies {} of the range away.",
    ),
    "firm": (
        "Within the usual range of {}, no action otherwise is found.",
        "The action is the same within the usual range of {}.",
    ),
    "counterfactual": ("With {name} at {} it would act otherwise.", "It would act otherwise with {name} at {}."),
    "observation": ("In this decision {name} was seen at {}.", "It saw {name} at {}."),
    "usual observation": ("As usual, {name} is at {}.", "The usual mean of {name} is {}."),
    "fidelity": (
        "A small tree imitates {} of held-out decisions rightly.",
        "Of held-out decisions, a small tree imitates {}.",
    ),
    "imitation": ("A small tree says {} of this decision.", "In this decision a small tree would say {}."),
    "condition": (
        "On the path of the small tree, {name} has a threshold at {}.",
        "A small tree has a threshold of {name} at {}.",
    ),
    "similar decisions": ("In all there were {} like this.", "The past has {} that are like this."),
    "same action": (
        "The same action was taken in {} of similar decisions.",
        "Of similar decisions, {} took the same action.",
    ),
    "reward of the same": (
        "After the same action, a mean reward of {} followed.",
        "Where the same action was taken, the reward was {} on average.",
    ),
    "reward of others": (
        "After another action, a mean reward of {} followed.",
        "Where another action was taken, the reward was {} on average.",
    ),
    "similar decision": (
        "After {name}, a past decision like this, came a reward of {}.",
        "In a similar decision, {name}, a reward of {} followed.",
    ),
    "distance of a similar decision": (
        "From this decision {name} lies {} away.",
        "The distance of {name} from this decision is {}.",
    ),
    "lead": ("The action taken leads {name} by {}.", "Over {name}, the action taken leads by {}."),
    "rule's action": (
        "In this decision {name} would take the action with number {}.",
        "The action of {name} here would be number {}.",
    ),
    "other": ("The report has {} for {name}.", "The number of {name} in the report is {}."),
}
"""By kind: wordings of what has no direction."""

CHANGES: Final[Mapping[str, Mapping[Stance, tuple[str, ...]]]] = {
    "difference in return": {
        "up": (
            "[It/This version] [is better than/beats/is ahead of] {name} by {}.",
            "Its return beats that of {name} by {}.",
        ),
        "down": (
            "[It/This version] [is worse than/is behind/trails] {name} by {}.",
            "Its return is lower than that of {name} by {}.",
        ),
        "flat": (
            "[It/This version] is not shown to differ from {name}, with {}.",
            "With a difference of {}, it is not shown to differ from {name}.",
        ),
    },
    "distance to the bound": {
        "up": ("It is ahead of what was a bound by {}.",),
        "down": (
            "It is behind a bound that knows what comes by {}.",
            "It is worse than the bound, as any rival, by {}.",
        ),
        "flat": ("It is not shown to differ from the bound, with {}.",),
    },
    "difference in a part of the return": {
        "up": (
            "In the {name} part of the return it is better< than {other}> by {}.",
            "<Against {other}, >it is better in the {name} part by {}.",
        ),
        "down": (
            "In the {name} part of the return it is worse< than {other}> by {}.",
            "<Against {other}, >it is worse in the {name} part by {}.",
        ),
        "flat": (
            "In the {name} part it is not shown to differ< from {other}>, with {}.",
            "<Against {other}, >no difference is shown in the {name} part, with {}.",
        ),
    },
    "change in rows": {
        "up": ("The volume of rows rose by {}.", "Against the interval before, rows rose by {}."),
        "down": ("The volume of rows fell by {}.", "Against the interval before, rows fell by {}."),
        "flat": ("The volume is not shown to have changed, with {}.",),
    },
    "change in reward": {
        "up": ("Mean reward rose by {}.", "Against the interval before, mean reward rose by {}."),
        "down": ("Mean reward fell by {}.", "Against the interval before, mean reward fell by {}."),
        "flat": (
            "Mean reward is not shown to have changed, with {}.",
            "No difference in mean reward is shown, with {}.",
        ),
    },
    "change in a part of the reward": {
        "up": ("The {name} part of the reward rose by {}.", "Of the reward, the {name} part rose by {}."),
        "down": ("The {name} part of the reward fell by {}.", "Of the reward, the {name} part fell by {}."),
        "flat": (
            "The {name} part is not shown to have changed, with {}.",
            "Of the reward, the {name} part is not shown to differ, with {}.",
        ),
    },
    "change in earnings": {
        "up": (
            "Agents earned more by it than before it, with {}.",
            "Earnings rose by {} against the version before.",
        ),
        "down": (
            "Agents earned less by it than before it, by {}.",
            "Earnings fell by {} against the version before.",
        ),
        "flat": ("It is not shown that agents earned otherwise, with {}.",),
    },
    "difference to the usual": {
        "up": (
            "The choice is clearer than is usual by {}.",
            "Against the typical situation, it is clearer by {}.",
        ),
        "down": (
            "The choice is less clear than is usual by {}.",
            "Against the typical situation, it is less clear by {}.",
        ),
        "flat": (
            "It is not shown to differ from the usual, with {}.",
            "Against the typical situation, no difference is shown, with {}.",
        ),
    },
    "attribution": {
        "up": ("The value of {name} spoke for the action by {}.", "What spoke for the action rose by {} with {name}."),
        "down": (
            "The value of {name} reduced by {} what spoke for the action.",
            "Against the action spoke {name}, which reduced its value by {}.",
        ),
        "flat": ("It is not shown that {name} spoke for or against the action, with {}.",),
    },
}
"""By kind and direction: wordings of a change."""

_OPTIONAL: Final = re.compile(r"<([^<>]*)>")
_CHOICE: Final = re.compile(r"\[([^\]]+)\]")


def wordings(fact: Fact, aliases: Aliases) -> tuple[str, ...]:
    """Return the texts that are right of a fact, as the model is to write them; none where no wording is known."""
    kind, stance = kind_of(fact.fact_id).name, stance_of(fact)
    known = LEVEL.get(kind, ()) if stance == "level" else CHANGES.get(kind, {}).get(stance, ())
    marks = placeholders(fact, aliases)
    fitting = (one for one in known if ("{name}" in one) == ("name" in marks))
    texts = (text for one in fitting for text in _expanded(one, other="other" in marks))
    return tuple(text.replace("{}", "{size}") if "size" in marks else text for text in texts)


def _expanded(wording: str, *, other: bool) -> Iterator[str]:
    text = _OPTIONAL.sub(r"\1" if other else "", wording).replace("{rival}", "{other}" if other else "the rival")
    parts = [part.split("/") if place % 2 else [part] for place, part in enumerate(_CHOICE.split(text))]
    for chosen in itertools.product(*parts):
        sentence = "".join(chosen)
        yield sentence[:1].upper() + sentence[1:]
