"""Questions for `fit_ask.py`, composed of written lines that have places for names, and of what stands around them.

`tests/e2e/questions_composed.txt` has the lines by who would ask so (`@on-call`) and kind. A place is filled with names
of the questions' world: an agent, a time, a version, an action in four forms, another action, an observation, and so
on.
"""

import random
import re
from pathlib import Path

LINES = Path(__file__).parents[1] / "e2e/questions_composed.txt"
FORMS = {  # of an action: to do it, did it, doing it, what it is called
    "cloud": [
        ("scale up", "scaled up", "scaling up", "+1"),
        ("scale down", "scaled down", "scaling down", "-1"),
        ("add a replica", "added a replica", "adding a replica", "+1"),
        ("remove two replicas", "removed two replicas", "removing two replicas", "-2"),
        ("do nothing", "did nothing", "doing nothing", "0"),
        ("hold", "held", "holding", "0"),
        ("go up by two", "went up by two", "going up by two", "+2"),
        ("scale out", "scaled out", "scaling out", "the scale-up"),
        ("scale in", "scaled in", "scaling in", "the scale-down"),
        ("take -2", "took -2", "taking -2", "-2"),
        ("drop a pod", "dropped a pod", "dropping a pod", "the scale down"),
    ],
    "cartpole": [
        ("go left", "went left", "going left", "left"),
        ("push right", "pushed right", "pushing right", "right"),
        ("choose left", "chose left", "choosing left", "left"),
        ("push to the left", "pushed to the left", "pushing to the left", "left"),
        ("go right", "went right", "going right", "right"),
    ],
    "dungeon": [
        ("fight", "fought", "fighting", "fight"),
        ("flee", "fled", "fleeing", "flee"),
        ("wait", "waited", "waiting", "wait"),
        ("loot", "looted", "looting", "loot"),
    ],
    "pump": [
        ("set 0.8", "set 0.8", "setting 0.8", "0.8"),
        ("choose 0.3", "chose 0.3", "choosing 0.3", "0.3"),
        ("pump less", "pumped less", "pumping less", "0.1"),
        ("go to 0.9", "went to 0.9", "going to 0.9", "0.9"),
    ],
}
SEEN = {
    "cloud": [
        "utilisation",
        "rate",
        "the queue",
        "p95",
        "latency",
        "pending",
        "ready replicas",
        "log_queue",
        "the rate",
    ],
    "cartpole": ["pole_angle", "pole angle", "cart_velocity", "the cart position", "pole_velocity"],
    "dungeon": ["health", "gold", "distance", "enemies"],
    "pump": ["pressure", "flow", "level", "the pressure", "the level"],
}
RULES = ["hpa", "the hpa rule", "the rate rule", "the tuned rule", "random play", "the HPA", "hpa"]
TIMES = [
    "at 14:05",
    "at 09:15",
    "at 2:05 pm",
    "14:05",
    "yesterday at 18:00",
    "ten minutes ago",
    "at 11:00:30",
    "in step 12 of episode e3",
    "@ 13:42",
    "at noon",
    "(12:20)",
    "on 30 January at 17:20",
    "at 14:05",
    "at 10:45",
    "13:55",
    "step 40 of ep-7",
    "yesterday 22:05",
    "half an hour ago",
    "at 8 am",
    "on its last step",
    "just now",
    "at 2026-01-31 08:30",
    "in episode e3 step 12",
    "at 05:30 UTC",
]
SPANS = [
    "today",
    "yesterday",
    "in the last hour",
    "since noon",
    "between 13:00 and 14:00",
    "this morning",
    "last night",
    "in the past two hours",
    "since 08:00",
    "from 9 to 11",
    "over the last 30 minutes",
    "last hr",
    "from 12:00 to 12:30",
    "since yesterday",
    "so far today",
    "in the last 45 minutes",
    "on 30 January",
    "before 10:00",
    "overnight",
    "lately",
]
BEFORE = [
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "hey, ",
    "ok so ",
    "quick question: ",
    "please: ",
    "hi, ",
    "tell me, ",
    "just curious, ",
    "one question, ",
    "sorry, ",
    "well, ",
    "and ",
    "so ",
    "Good morning. ",
    "do you know: ",
    "question: ",
    "for my report: ",
    "need to know: ",
    "",
]
AFTER = [
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "?",
    "?",
    "?",
    "??",
    " please",
    " pls",
    " thanks",
    " - thanks",
    " , any idea?",
    " , do you know?",
    "...",
    " , if I may ask",
    " , briefly",
    " in short",
    ".",
    " , please",
    "!",
    " (short answer)",
    " , I wonder",
]


def lines(path=LINES):
    """Return of each line its batch, its kind and its text."""
    batch = kind = ""
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("@"):
            batch = line[1:]
        elif line.startswith("  "):
            found.append((batch, kind, line.strip()))
        elif line:
            kind = line.rstrip(":")
    return found


def composed(world, times=3, seed=0):
    """Yield batch, kind and question, each line so many times: first as it stands, last misspelt here and there."""
    draw = random.Random(seed)
    for batch, kind, line in lines():
        for turn in range(times if "{" in line else 2):
            text = _filled(line, world, draw)
            if turn:
                text = f"{draw.choice(BEFORE)}{text.rstrip('?.') if (after := draw.choice(AFTER)) else text}{after}"
            if turn == times - 1 and draw.random() < 0.5:
                text = _misspelt(text, draw)
            yield batch, kind, text


def _filled(line, world, draw):
    named = [task for task in FORMS if task in line or any(agent in line for agent in world["agents"][task])]
    task = named[0] if named else draw.choice([*FORMS, "cloud", "cloud", "dungeon"])
    done, other = draw.sample(FORMS[task], 2)
    one, two = draw.sample(SEEN[task], 2)
    newer = draw.randint(2, world["versions"][task])
    values = {
        "a": draw.choice(world["agents"][task]),
        "t": draw.choice(TIMES),
        "p": draw.choice(SPANS),
        "k": draw.choice([task, task, f"the {task}", f"the {task} task"]),
        "r": draw.choice(RULES),
        **dict(zip(("x", "xd", "xg", "n"), done, strict=True)),
        **dict(zip(("y", "yd", "yg", "m"), other, strict=True)),
        "f": one,
        "g": two,
        "v": _version(task, newer, draw),
        "w": _version(task, newer - 1, draw, newest=False),
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], line)


def _version(task, number, draw, newest=True):
    ways = [f"version {number}", f"v{number}", f"{task}@{number}", f"version {number} of {task}", f"{task} v{number}"]
    spoken = ["the new version", "the latest version", "the serving version", "the live version", "the current policy"]
    older = ["the version before", "the old version", "the previous one", "its predecessor"]
    return draw.choice([*ways * 3, *(spoken if newest else older)])


def _misspelt(text, draw):
    """Return the text with one slip in a long word of small letters: two swapped, one lost or one twice."""
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if re.fullmatch("[a-z]{5,}", word)]
    if long:
        place = draw.choice(long)
        word, at = words[place], draw.randint(1, len(words[place]) - 2)
        slips = [word[:at] + word[at + 1] + word[at] + word[at + 2 :], word[:at] + word[at + 1 :]]
        words[place] = draw.choice([*slips, word[:at] + word[at] + word[at:]])
    return " ".join(words)
