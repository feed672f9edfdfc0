"""The API's description: FastAPI's, with records as msgspec describes them, and every error a problem."""

import json
from inspect import cleandoc
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headrace.pipelines.ask.answer import Answer
from headrace.pipelines.query.progress import JobRun, Lag
from headrace.pipelines.query.quarantine import Rejections
from headrace.pipelines.query.rejected import Replayed
from headrace.pipelines.serve.arriving import Accepted
from headrace.pipelines.serve.deciding import Decisions
from headrace.pipelines.serve.problems import MEDIA_TYPE, Problem
from headrace.pipelines.serve.routes.asking import QuestionAsked
from headrace.pipelines.serve.routes.decide import DecisionRequest
from headrace.pipelines.serve.routes.history import SeenAgent, SimilarDecision, Window
from headrace.pipelines.serve.routes.policies import VersionHead
from headrace.pipelines.serve.routes.rejected import RejectedHead, WholeRejected
from headrace.pipelines.serve.view import ReportHead
from headrace.schemas.codec_json import Row
from headrace.schemas.contract_files import contracts
from headrace.schemas.records import Directive, PolicyVersion, Rating, Report, ServingPolicy, TaskSpec

KINDS: Final = (
    *(Accepted, Answer, DecisionRequest, Decisions, Directive, JobRun, Lag, PolicyVersion, Problem, QuestionAsked),
    *(Rating, RejectedHead, Rejections, Replayed, Report, ReportHead, SeenAgent, ServingPolicy, SimilarDecision),
    *(TaskSpec, VersionHead, WholeRejected, Window),
)
"""What routes refer to; what these refer to follows."""
_PROBLEMS: Final = {
    "401": "No token, or one that is of no use.",
    "403": "The token lacks the scope that this needs, or the request is another site's.",
    "429": "Too many requests: `Retry-After` says when to send again.",
    "503": "What this needs is away: `Retry-After` says when to ask again.",
    "default": "Anything else that is wrong.",
}


def describe(app: FastAPI) -> None:
    """Let the application tell its description."""

    def description() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _description(app)
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign] # as FastAPI's documentation has it


def _description(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = msgspec.json.schema_components(KINDS, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = " ".join(cleandoc(schema["description"]).split())
    components = found.setdefault("components", {})
    own = {name: one for name, one in components.get("schemas", {}).items() if "ValidationError" not in name}
    components["schemas"] = dict(sorted({**own, **schemas, Row.__name__: _transition()}.items()))
    components["responses"] = {name: _problem(about) for name, about in _PROBLEMS.items()}
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {name: {"$ref": f"#/components/responses/{name}"} for name in _PROBLEMS}
    return found


def _transition() -> dict[str, Any]:
    """Return the contract of a transition, with the rules that hold for every task."""
    contract: dict[str, Any] = json.loads(contracts()["transition.schema.json"])
    return {name: one for name, one in contract.items() if not name.startswith("$")}


def _problem(about: str) -> dict[str, Any]:
    return {"description": about, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
