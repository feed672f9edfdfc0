"""The words of a report: a narrator's where they are grounded, else the template's."""

import logging

from headrace.learners.explain.template import BARE, TemplateNarrator
from headrace.schemas.grounding import check
from headrace.schemas.ports import Narrator
from headrace.schemas.records import Facts, Narrative

logger = logging.getLogger(__name__)


class Words:
    """Finds them. refusals: narratives that failed or were not grounded. fallbacks: reports that others worded."""

    def __init__(self, narrator: Narrator) -> None:
        self.refusals = 0
        self.fallbacks = 0
        self.narrator = narrator

    def of(self, facts: Facts) -> Narrative:
        """Let the narrator speak, then the template.

        Should that not be grounded either, which is a fault of headrace's own, the facts stand alone.
        """
        for narrator in (self.narrator, TemplateNarrator()):
            try:
                narrative = narrator.tell(facts)
                check(narrative, facts)
            except Exception as error:  # noqa: BLE001 whatever a narrator does must not keep a report back
                self.refusals += 1
                logger.warning("narrator of %s %s: %s", facts.task, facts.subject, error)
            else:
                self.fallbacks += narrator is not self.narrator
                return narrative
        self.fallbacks += 1
        logger.error("%s %s: not even the template is grounded; reported without words", facts.task, facts.subject)
        return BARE
