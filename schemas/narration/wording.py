"""What a language model may not write though every number of it were right.

Each list says what is wrong with its words, for the model to do better. What is on no list is held to the vocabulary.
"""

import re
from typing import Final

from headrace.schemas.grounding import PLACEHOLDER
from headrace.schemas.narration.kinds import Kind
from headrace.schemas.narration.vocabulary import vocabulary

BANNED: Final[dict[str, frozenset[str]]] = {
    reason: frozenset(words.split())
    for reason, words in {
        "praises or blames, which no fact measures": "amazing awesome impressive remarkable excellent outstanding "
        "great fantastic incredible terrible awful poor tremendous perfect perfectly optimal ideal superb",
        "gives a size that no fact bears out": "huge massive dramatic dramatically significant significantly "
        "substantial substantially considerable considerably sharp sharply slight slightly strongly vastly enormous "
        "tiny negligible marginal marginally much",
        "is surer than any fact": "proves proven proof guarantees guaranteed guarantee always never certainly "
        "definitely obviously clearly undoubtedly surely ensures confirms confirmed evidently indeed absolutely",
        "gives advice": "should must ought recommend recommends recommended recommendation advise advised suggest "
        "suggests suggested consider need needs please try let's",
        "promises what is not measured": "will shall soon future expect expects predict predicts predicted "
        "forecast forecasts continue continues going promises",
        "addresses somebody": "you your yours yourself i me my we us our ours operator user reader",
        "is talk about the task, not about the facts": "ignore ignored instruction instructions prompt system "
        "assistant ai model language json sentence placeholder sorry password key secret",
    }.items()
}
"""By reason: words. No fact bears any of them out."""
_BANNED: Final = {word: reason for reason, words in BANNED.items() for word in words}
LEAST_WORDS: Final = 3
_WORD: Final = re.compile("[A-Za-z]+(?:['\u2019][A-Za-z]+)?")
_ONE_SENTENCE: Final = re.compile(r"[^.!?;]*\.")


def wording_problems(text: str, kind: Kind) -> list[str]:
    """Say what is wrong with the words around the placeholders of a sentence on a fact of a kind."""
    plain = PLACEHOLDER.sub(" it ", text)
    words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(plain)]
    different = dict.fromkeys(words)
    found = [f'"{word}" {_BANNED[word]}' for word in different if word in _BANNED]
    strange = [word for word in different if word not in vocabulary(kind) and word not in _BANNED]
    found += [f'"{word}" is not among the plain words that reports are made of' for word in strange]
    if len(words) < LEAST_WORDS:
        found.append("text is no sentence")
    elif not _ONE_SENTENCE.fullmatch(plain):
        found.append("text must be one plain sentence that ends with a full stop")
    return found
