"""The words that a language model may write: a list of what is let through, not of what is kept out.

Any word can be a claim ("a popular version", "chaos of {}"), and no list of bad ones is ever whole. So a sentence is
made of words that say nothing by themselves, of directions and causes, which are checked, and of the words that the
kind of its fact is described by: of rows no sentence says "reward". A word that is missing here costs a sentence; the
template tells it.
"""

import re
from functools import cache
from typing import Final

from headrace.schemas.grounding import DIRECTIONAL
from headrace.schemas.narration.kinds import Kind

_GENERAL: Final = """
a an the this that these those it its itself they them their there here what which who whom whose how of in on at by
for from to with without within under over between among across against per as than then when where while if whether
because or and but nor neither either some no not also even just still yet so
such same another one ones others otherwise instead again back together alone apart away out off up down is are was
were be been being has have had having do does did done doing would come comes came coming go goes went gone take
takes took taken taking make makes made give gives gave given show shows showed shown showing stand stands stood lie
lies lay hold holds held say says said tell tells told see sees saw seen look looks looked find finds found know knows
known learn learns learned call calls called count counts counted counting total totals sum sums amount amounts add
adds added reach reaches reached measure measures measured measuring record records recorded observe observes observed
compare compares compared report reports reported describe describes described mention mentions mentioned name names
named list lists listed remain remains remained stay stays stayed keep keeps kept leave leaves left end ends ended
begin begins began account accounts accounted rest rests rested belong belongs concern concerns regard regards respect
use uses used act acts acted choose chooses chose chosen prefer prefers preferred decide decides decided serve serves
served serving work works worked run runs ran play plays played send sends sent receive received expect expected
estimate estimates estimated value values valued lead leads led speak speaks spoke spoken answer answers answered ask
asks asked test tests tested try tries tried earn earns earned earning earnings draw draws drawn train trained
training move moves moved imitate imitates imitated vary varies varied correct corrected drop drops dropped close
closes closed number numbers figure figures level levels size difference differences distance change changes changed
mean means average overall rate share shares range limit limits larger smaller many few step steps action actions
decision decisions policy policies version versions rule rules rival rivals agent agents fleet window windows interval
intervals row rows transition transitions case cases time times period periods day days hour hours minute minutes
second seconds data sample samples feature features observation observations term terms dimension condition conditions
service services partition volume early earlier previous before after during since until beside besides last next
first current currently now new newer newest old older oldest previously far common often small large own really whole
entire single different similar like directions too supposed settings state stated text included including
"""
_WORD: Final = re.compile("[a-z]+(?:'t)?")


@cache
def vocabulary(kind: Kind) -> frozenset[str]:
    """Return the words of a sentence on a fact of this kind, in lower case."""
    own = f"{kind.name} {kind.meaning} {kind.also}".lower()
    contracted = {f"{verb}n't" for verb in ("is", "are", "was", "were", "do", "does", "did", "has", "have", "had")}
    return frozenset(_WORD.findall(_GENERAL + own)) | DIRECTIONAL | contracted
