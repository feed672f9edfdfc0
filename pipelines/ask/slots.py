"""What a question names: agents, versions, times, actions and observations; in the text their kinds stand for them."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Final
from zoneinfo import ZoneInfo

from headrace.learners.explain.attribution import by_name
from headrace.pipelines.ask.grammar import grammar
from headrace.pipelines.ask.meaning import is_english
from headrace.pipelines.ask.question import Moment
from headrace.pipelines.ask.times import times
from headrace.schemas.records import TaskSpec

APOSTROPHE: Final = " '"
LEAST_ALIKE: Final = 0.85
"""Of a misspelt word and the one that is meant, if their letters differ: difflib's ratio."""
LEAST_NAME: Final = 3
"""A name that is shorter, or a number, is one only after a word that says so: "agent 7", "action a"."""

_PLACE: Final = re.compile(r"(?<![\w/])([\w.-]{1,64})/([\w.-]{1,64})/(\d{1,9})\b")
_POLICY: Final = re.compile(r"(?<![\w@])([\w.-]{1,64})@v?(\d{1,9})\b")
_STEP: Final = re.compile(r"\bstep(?: number| no\.?)? ?#?(\d{1,9})\b|\b(\d{1,9})(?:st|nd|rd|th) step\b")
_EPISODE: Final = re.compile(r"\bepisode(?: number| no\.?| id)? #?((?=[\w.-]*\d)[\w.-]*[\w-])")
_VERSION: Final = re.compile(
    r"\b(?:versions?|ver\.?|vers|polic(?:y|ies)|models?|releases?|candidates?)(?: number| no\.?)? ?#?v?(\d{1,9})\b|"
    r"\b(?:v\.? ?|pi[_ -]?)(\d{1,9})\b"
)
_ANOTHER: Final = re.compile(
    r"(?<=VERSION )((?:and|or|to|with|vs\.?|versus|against|than|over|,) )v?(\d{1,9})\b(?![:.%])"
)
_NEWEST: Final = re.compile(r"\b(?:newest|latest|last|most recent) (?:\w+ )?(?:version|policy|candidate|model|one)\b")
_AGENT_OF_DIGITS: Final = re.compile(r"\bagents?(?: named| called| id| number)? ((?=[\w.-]*\d)[\w.-]*[\w-])")
_LIKE_AN_AGENT: Final = re.compile(
    r"(?<![\w.+-])([a-z]+[._-]?(?:[a-z]+[._-])*\d(?:[\w.-]*\w)?|[a-z]+(?:[._-][a-z0-9]+)+)(?!\w)"
)
_RULE: Final = re.compile(r"\b(?:rules?|baselines?|random|constant|static)\b")
_FOIL: Final = re.compile(
    r"(?:\bnot|n't|\bthan|\binstead of|\bover|\bplace of|\bagainst|\bcompare.* with)(?: \w+){0,3} $"
)
_SIGNED: Final = re.compile(r"\b(plus|minus) ?(one|two|three|four|five|\d+)\b")
_SPELT: Final = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}


@dataclass(frozen=True, slots=True)
class Names:
    """What is known by name. specs: tasks. agents: of a task. rules: of a task, what text calls each by its key."""

    specs: Mapping[str, TaskSpec]
    agents: Callable[[str], Collection[str]]
    rules: Callable[[TaskSpec], Mapping[str, str]]


@dataclass(slots=True)
class Slots:
    """What was found. text: the question in small letters, with `AGENT`, `VERSION` and so on in names' stead."""

    text: str
    task: str | None = None
    agent: str | None = None
    moment: Moment | None = None
    episode: str | None = None
    step: int | None = None
    versions: tuple[int, ...] = ()
    newest: bool = False
    actions: tuple[int, ...] = ()
    foils: tuple[int, ...] = ()
    feature: str | None = None
    rule: str | None = None

    def take(self, pattern: re.Pattern[str], kind: str) -> list[tuple[Any, ...]]:
        """Put the kind for each match; return the matches' groups that took part."""
        found = [tuple(part for part in match.groups() if part) for match in pattern.finditer(self.text)]
        self.text = pattern.sub(lambda match: f"{_cue(match)} {kind.upper()} ", self.text)
        return found


def _cue(match: re.Match[str]) -> str:
    """Return the word before a name that says what it is."""
    return match.groupdict().get("cue") or ""


def filled(text: str, names: Names, now_ms: int, zone: ZoneInfo, task: str | None = None) -> Slots:
    """Find what a question names. task: the one that is asked about, if that is known."""
    slots = Slots(_folded(text), task)
    _take_task(slots, names)
    for agent, episode, step in slots.take(_PLACE, "agent"):
        slots.agent, slots.episode, slots.step = agent, episode, int(step)
    for spec in _meant(slots, names):
        _take_agent(slots, names.agents(spec.task))
    _settle_agent(slots, names, text)
    specs = _meant(slots, names)
    for spec in specs:
        if _RULE.search(slots.text) or foreign(slots.text):  # an environment is loaded for their names
            _take_rules(slots, names.rules(spec))
    slots.text = _spelt(slots.text, specs)
    slots.moment, slots.text = times(slots.text, now_ms, zone)
    _take_places(slots)
    for spec in specs:
        _take_actions(slots, spec)
        _take_feature(slots, spec)
    _take_unknown_agent(slots)
    slots.episode = _as_typed(slots.episode, text)
    _settle_agent(slots, names, text)
    slots.text = " ".join(slots.text.split())
    return slots


def _settle_agent(slots: Slots, names: Names, text: str) -> None:
    """Spell an agent's name as it is known, and take its task where one alone has it; else spell it as it was typed."""
    if slots.agent is None:
        return
    owners = {
        spec.task: name
        for spec in _meant(slots, names)
        for name in names.agents(spec.task)
        if name.lower() == slots.agent.lower()
    }
    slots.agent = next(iter(owners.values()), _as_typed(slots.agent, text))
    slots.task = next(iter(owners)) if len(owners) == 1 else slots.task


def _as_typed(name: str | None, text: str) -> str | None:
    """Return a name with the letters, small or capital, that the question has."""
    found = re.search(re.escape(name), text, re.IGNORECASE) if name else None
    return found[0] if found else name


def foreign(text: str) -> list[str]:
    """Return the words that are foreign to all that can be asked; names in a question's text count as known."""
    read = grammar()
    words = re.findall(r"[^\W\d_][\w'-]*", text)
    return [word for word in words if word.islower() and word not in read.function and word not in read.known]


def _meant(slots: Slots, names: Names) -> list[TaskSpec]:
    """Return the task that is asked about; all while it is not known."""
    return [spec for name, spec in names.specs.items() if name == slots.task] or [*names.specs.values()]


def _folded(text: str) -> str:
    """Return a question in small letters, with one kind of minus, quotation mark and space."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub("[\u2212\u2013\u2014](?=\\d)", "-", text)
    text = re.sub("[\u2018\u2019`\u00b4]", "'", text)
    text = re.sub('["\u201c\u201d<>()\\[\\]{}]', " ", text)
    text = _SIGNED.sub(lambda match: "-+"[match[1] == "plus"] + _SPELT.get(match[2], match[2]), text)
    return re.sub("^ y ", " why ", f" {' '.join(text.split())} ")


def _take_task(slots: Slots, names: Names) -> None:
    by_name = {name.lower(): name for name in names.specs}
    for task, version in slots.take(_POLICY, "version"):
        slots.task = slots.task or by_name.get(task, task)
        slots.versions += (int(version),)
    for name in sorted(by_name, key=len, reverse=True):
        if slots.take(_named(name), "task"):
            slots.task = slots.task or by_name[name]


def _named(name: str, endings: str = "") -> re.Pattern[str]:
    """Return a pattern of a name where it stands as a word of its own: a short one, or a number, after a cue."""
    spelt = re.sub(r"(?:\\?[ _-])+", "[ _-]", re.escape(name)) if name[:1].isalpha() else re.escape(name)
    cue = grammar().cue if len(name) < LEAST_NAME and name[:1] not in "+-" else ""
    return re.compile(rf"{cue}(?<![\w.+@/-]){spelt}{endings}(?![\w%]|[:.-]\w)")


def _take_agent(slots: Slots, agents: Iterable[str]) -> None:
    for name in sorted(agents, key=len, reverse=True):
        short = len(name) < LEAST_NAME or name.isdecimal() or name.lower() in grammar().known
        pattern = re.compile(rf"\bagents? {re.escape(name.lower())}(?![\w-])") if short else _named(name.lower())
        if name.lower() in slots.text and slots.take(pattern, "agent"):
            slots.agent = slots.agent or name


def _spelt(text: str, specs: Iterable[TaskSpec]) -> str:
    """Return the text with the words of questions and names that are misspelt put right."""
    own = {word for spec in specs for word in _words_of(spec)}
    read = grammar()
    known = [*(word for word in read.known if len(word) > LEAST_NAME), *own]

    def right(match: re.Match[str]) -> str:
        word = match[0] if match[0] in own else read.spelt.get(match[0], match[0])
        if word in own or word in read.known or word in read.function or is_english(word):
            return word
        likely = [one for one in known if one[0] == word[0] and abs(len(one) - len(word)) < 2]
        near = get_close_matches(word, likely, 5, 0.7) if len(word) > LEAST_NAME else []
        alike = (one for one in near if sorted(one) == sorted(word) or _ratio(one, word) > LEAST_ALIKE)
        return next(alike, word)

    return re.sub(r"(?<![\w@.+/'-])[a-z]+(?![\w@/'-]|\.\w)", right, text)


def _ratio(one: str, word: str) -> float:
    return SequenceMatcher(None, one, word).ratio()


def _words_of(spec: TaskSpec) -> list[str]:
    """Return the words of a task's names, and the past of its actions."""
    actions = [name.lower() for name in spec.actions] if isinstance(spec.actions, tuple) else []
    names = " ".join((*spec.observations, *actions, *spec.reward_terms)).lower()
    past = grammar().past
    return [*re.split(r"[\W_]+", names), *(past[name] for name in actions if name in past)]


def _take_places(slots: Slots) -> None:
    for (step,) in slots.take(_STEP, "step"):
        slots.step = int(step)
    for (episode,) in slots.take(_EPISODE, "episode"):
        slots.episode = episode
    slots.versions += tuple(int(number) for (number,) in slots.take(_VERSION, "version"))
    slots.text = " ".join(slots.text.split())
    slots.versions += tuple(int(number) for _, number in slots.take(_ANOTHER, "version"))
    slots.newest = bool(_NEWEST.search(slots.text))


def _take_rules(slots: Slots, rules: Mapping[str, str]) -> None:
    spoken = {called.lower().removeprefix("the "): key for key, called in rules.items()} | {key: key for key in rules}
    for name in sorted(spoken, key=len, reverse=True):
        if slots.take(_named(name), "rule"):
            slots.rule = slots.rule or spoken[name]


def _take_actions(slots: Slots, spec: TaskSpec) -> None:
    """Put `ACTION` for actions, those that are asked about instead as foils."""
    if not isinstance(spec.actions, tuple):
        return
    forms = [(place, form) for place, name in enumerate(spec.actions) for form in _forms(name.lower())]
    patterns = [(_named(form, "(?:s|d|ed|es|ing)?"), (place,)) for place, form in forms]
    found: list[tuple[int, tuple[int, ...]]] = []
    for pattern, places in (*patterns, *_directions(spec.actions)):
        found += [
            (match.start() + len(match.groupdict().get("cue") or ""), places) for match in pattern.finditer(slots.text)
        ]
    for begin, places in sorted(found):
        if _FOIL.search(f"{slots.text[:begin].rstrip(APOSTROPHE)} "):
            slots.foils = slots.foils or places
        else:
            slots.actions = slots.actions or places
    for pattern, _ in (*patterns, *_directions(spec.actions)):
        slots.take(pattern, "action")


def _forms(name: str) -> list[str]:
    """Return an action's name, and its past where that is irregular."""
    past = grammar().past.get(name)
    return [name, past] if past else [name]


def _directions(actions: tuple[str, ...]) -> list[tuple[re.Pattern[str], tuple[int, ...]]]:
    """Return what words mean where actions are numbers: those above 0, those below, and 0."""
    try:
        sizes = [float(name) for name in actions]
    except ValueError:
        return []
    if min(sizes) >= 0.0 or max(sizes) <= 0.0:
        return []
    signs = [(grammar().up, 1), (grammar().down, -1), (grammar().hold, 0)]
    of = {
        sign: tuple(place for place, size in enumerate(sizes) if (size > 0) - (size < 0) == sign) for _, sign in signs
    }
    return [(pattern, of[sign]) for pattern, sign in signs if of[sign]]


def _take_feature(slots: Slots, spec: TaskSpec) -> None:
    """Put `FEATURE` for observations: by their name, or a word of it that no other has."""
    by_word: dict[str, list[str]] = {}
    for base in by_name(spec.observations):
        for word in {base.lower(), *re.split(r"[\W_]+", base.lower())}:
            by_word.setdefault(word, []).append(base)
    for word in sorted(by_word, key=len, reverse=True):
        known = len(word) >= LEAST_NAME and (word not in grammar().function or word == by_word[word][0].lower())
        if (
            known
            and word in slots.text.replace(" ", "_") + slots.text
            and slots.take(_named(word, "(?:s|es)?"), "feature")
        ):
            slots.feature = slots.feature or by_word[word][0]
    for term in spec.reward_terms:
        slots.take(_named(term.lower()), "term")


def _take_unknown_agent(slots: Slots) -> None:
    """Take for an agent what stands where one would, or looks like one: that it is unknown is said later."""
    known = [name for (name,) in slots.take(_AGENT_OF_DIGITS, "agent")]

    def masked(match: re.Match[str]) -> str:
        if not foreign(re.sub(r"[._-]", " ", match[1])) and not re.search(r"\d", match[1]):
            return match[0].replace(".", " ").replace("-", " ")  # words that are put together
        known.append(match[1])
        return " AGENT "

    if slots.agent is None:
        slots.text = _LIKE_AN_AGENT.sub(masked, slots.text)
        slots.agent = known[0] if known else None
