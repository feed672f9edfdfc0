"""Whether a sentence's words are those of its fact's kind: grounded is not yet well said.

A number that is right can stand in a sentence on something else: "the mean reward was" of a share of rows. So each kind
has words of which a sentence on it needs one, and some words belong to some kinds alone.
"""

import re
from functools import lru_cache
from typing import Final

NEEDED: Final[dict[str, str]] = {
    "version": "version|report|text|serves",
    "version before": "before|previous|earlier",
    "experience": "experience|learned|steps",
    "updates": "updates?|network",
    "new rows": "new",
    "tested": "gate|tested|simulator",
    "tested, close": "close|gate",
    "judged by data": "recorded|data|estimated|judged",
    "tried by canary": "canary|part of|tried",
    "untested": "without|untested|settings|no test",
    "let serve by a person": "person",
    "overruled": "person",
    "refusals": "refused|rejected|refusals?",
    "went back": "back",
    "gate's rows": "gate|estimates?",
    "traces": "returns?|traces|measured",
    "comparisons": "corrected|comparisons|together",
    "return": "return|earns|mean|average",
    "return of a rival": "return|earns|mean|average",
    "difference in return": "return|better|beats|ahead|worse|behind|trails|differ|difference",
    "distance to the bound": "bound",
    "difference in a part of the return": "part",
    "earned": "earned",
    "drawn": "draw|drawn",
    "decisions": "looked at|decisions",
    "situation": "situation|where|holds",
    "explained": "account|accounted|explained",
    "mean action": "mean|average",
    "action in a situation": "takes?|taken|chooses?|chosen|action",
    "margin": "leads?|margin",
    "differs": "otherwise|differs?|differ|difference",
    "commonest difference": "commonest|often",
    "larger step": "step|decisions|difference",
    "smaller step": "step|decisions|difference",
    "differs in a situation": "otherwise|differs?|differ",
    "at its lowest": "lowest",
    "at its highest": "highest",
    "move": "moves?|step to step",
    "distance": "away|distance|apart",
    "rows": "came in|sent|rows|transitions",
    "change in rows": "volume|rows|transitions",
    "agents": "sent|agents|came from",
    "episodes": "ended|episodes",
    "duplicates": "again|duplicates?",
    "late rows": "late|closed",
    "unreported": "earlier|late",
    "mean reward": "reward",
    "mean of a part": "part",
    "change in reward": "reward",
    "change in a part of the reward": "part",
    "version at work": "made|share|transitions",
    "reward of a version": "reward",
    "versions changed": "came or went|only|both|changed",
    "change in earnings": "earned|earnings",
    "shift": "actions?|share",
    "action": "actions?",
    "mean action taken": "average|mean",
    "rejected": "rejected|bad data",
    "rejected by rule": "rejected|bad data",
    "action taken": "taken|took|action",
    "version asked": "asked",
    "value": "expected|value|valued",
    "probability": "probability",
    "log-density": "log-density",
    "best action": "best",
    "distance from the best": "best",
    "distance from a bound": "bound",
    "difference to the usual": "clearer|clear|differ|difference",
    "action otherwise": "otherwise|counterfactual",
    "distance of the counterfactual": "counterfactual",
    "firm": "no action|the same",
    "counterfactual": "otherwise",
    "attribution": "spoke|spoken|attribution",
    "observation": "seen|saw|observed",
    "usual observation": "usual|typical",
    "fidelity": "tree|imitates?",
    "imitation": "tree|imitates?",
    "condition": "tree|path",
    "similar decisions": "like this|past|similar",
    "same action": "same",
    "reward of the same": "same",
    "reward of others": "another|other",
    "similar decision": "like this|similar|past",
    "distance of a similar decision": "away|distance",
    "lead": "leads?|lead",
    "rule's action": "would",
}
"""By kind: words of which a sentence on it has one. A kind that is not here needs none."""

_REWARD: Final = frozenset(
    {
        "mean reward",
        "mean of a part",
        "change in reward",
        "change in a part of the reward",
        "reward of a version",
        "reward of the same",
        "reward of others",
        "similar decision",
    }
)
_GATE: Final = frozenset(
    {"tested", "tested, close", "judged by data", "untested", "overruled", "refusals", "went back", "gate's rows"}
)
_IMITATED: Final = frozenset({"condition", "imitation", "fidelity"})
_PARTS: Final = frozenset(
    {"difference in a part of the return", "mean of a part", "change in a part of the reward", "tried by canary"}
)
_BAD: Final = frozenset({"rejected", "rejected by rule"})
OWNED: Final[dict[str, frozenset[str]]] = {
    "reward": _REWARD,
    "gate": _GATE,
    "canary": frozenset({"tried by canary"}),
    "person": frozenset({"let serve by a person", "overruled"}),
    "simulator": _GATE,
    "bound": frozenset({"distance to the bound", "distance from a bound"}),
    "part": _PARTS,
    "duplicates?": frozenset({"duplicates"}),
    "bad data": _BAD,
    "lowest": frozenset({"at its lowest"}),
    "highest": frozenset({"at its highest"}),
    "tree": _IMITATED,
    "traces": frozenset({"traces"}),
    "late": frozenset({"late rows", "unreported"}),
    "ended": frozenset({"episodes"}),
    "comparisons": frozenset({"comparisons"}),
    "refused": _GATE,
    "spoke": frozenset({"attribution"}),
    "moves": frozenset({"move"}),
}
"""Words that belong to some kinds alone. A kind that is not in NEEDED may have them all."""


def kind_problems(text: str, kind: str) -> list[str]:
    """Say what makes a sentence's words those of another kind; nothing where they are right. kind: a Kind's name."""
    if kind not in NEEDED:
        return []
    found = [] if _word(NEEDED[kind]).search(text) else [f"no word that says that it is on {kind}"]
    foreign = (word for word, kinds in OWNED.items() if kind not in kinds and _word(word).search(text))
    return found + [f'"{word}" is of another kind than {kind}' for word in foreign]


@lru_cache
def _word(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
