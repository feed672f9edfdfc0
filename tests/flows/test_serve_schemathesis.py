"""schemathesis asks the API, by its own description, what it does not say of itself."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import NOW_MS, fill, served

from headrace.pipelines.serve.contract import FILE
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "4"))
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
CONFIG = {"phases": {"coverage": {"enabled": False}, "examples": {"enabled": False}}}
schema = schemathesis.openapi.from_path(FILE, config=schemathesis.Config.from_dict(CONFIG))
every_case = schemathesis.openapi.from_path(FILE)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemathesis")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_services(read_settings(), lambda: NOW_MS, create=True) as services:
            fill(services)
            with served(services) as client:
                yield without_lifespan(client.app)


def without_lifespan(app):
    """The application, which was begun already: schemathesis would begin it for each request."""

    async def asked(scope, receive, send):
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    return asked


def ask(case, app):
    """Ask with names that there are, half of the time's worth of finding them."""
    for name, known in (("task", "valve"), ("report_id", "valve.version.1"), ("directive_id", "valve.2.1")):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = known
    case.headers["Host"] = "localhost"
    response = case.call(app=app)
    case.validate_response(response, checks=CHECKS)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
def test_the_api_is_as_it_says(case, app):
    ask(case, app)


@pytest.mark.long
@every_case.parametrize()
@settings(max_examples=200, deadline=None, suppress_health_check=[*HealthCheck])
def test_the_api_is_as_it_says_at_length(case, app):
    ask(case, app)
