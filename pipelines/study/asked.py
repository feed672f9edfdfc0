"""An advisor that a URL names, opened for a run of the study."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import Services
from headrace.schemas.ports import Advisor
from headrace.schemas.scenarios import Scenario, Variations
from headrace.schemas.url import Url


@contextmanager
def opened(url: Url) -> Iterator[Advisor]:
    """Give the advisor; raises SettingsError."""
    with closing(Services(read_settings({"advisor": url}), parts=("advisor",))) as services:
        assert services.advisor is not None
        yield services.advisor


def scenarios(url: Url, variations: Variations) -> tuple[Scenario, ...]:
    """Ask once what it would train on besides; raises as `Advisor.scenarios` does."""
    with opened(url) as advisor:
        return tuple(advisor.scenarios(variations))
