"""What a person decides on a task's page: each needs a reason, and is refused where somebody has decided since."""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from headrace.pipelines.policies import directing
from headrace.pipelines.policies.control import Control
from headrace.pipelines.query.rejected import LATER_RULES, replay
from headrace.pipelines.serve.access import Caller, Operates
from headrace.pipelines.serve.console.login import form
from headrace.pipelines.serve.console.pages import shown
from headrace.pipelines.serve.console.render import PageRoute
from headrace.pipelines.serve.problems import RefusedError, status_of
from headrace.pipelines.serve.routes.parameters import DirectiveId, Task
from headrace.pipelines.serve.routes.policies import decided
from headrace.pipelines.serve.site import Here, Site
from headrace.schemas.errors import HeadraceError
from headrace.schemas.records import ServingPolicy
from headrace.schemas.rules import RULE_NAMES

router = APIRouter(route_class=PageRoute, include_in_schema=False)

REASON_CHARACTERS: Final = 500
SEEN_S: Final = 2.0
"""So long the answer waits for the view to have read what was just written."""
Act = Literal["promote", "rollback", "hold", "release"]


@router.post("/tasks/{task}/replay")
async def send_again(request: Request, site: Here, _: Operates, task: Task) -> Response:
    """Send again what was rejected and may pass now."""
    site.spec(task)
    sent = await form(request)
    return await _answered(request, site, task, {"act": "replay"} | sent, lambda: _replay(site, sent.get("rule", "")))


@router.post("/tasks/{task}/directives/{directive_id}/{act}")
async def decide_directive(
    request: Request,
    site: Here,
    caller: Operates,
    task: Task,
    directive_id: DirectiveId,
    act: directing.Act,
) -> Response:
    """Approve or reject a proposed change of learning, or undo one that is made."""
    site.spec(task)
    sent = await form(request)
    draft = {"act": act, "directive": directive_id} | sent
    return await _answered(request, site, task, draft, lambda: _direct(site, caller, task, directive_id, act, sent))


@router.post("/tasks/{task}/{act}")
async def decide(request: Request, site: Here, caller: Operates, task: Task, act: Act) -> Response:
    """Decide what serves; the page then says what came of it."""
    site.spec(task)
    sent = await form(request)
    return await _answered(request, site, task, {"act": act} | sent, lambda: _decide(site, caller, task, act, sent))


async def _answered(request: Request, site: Site, task: str, draft: dict[str, str], do: Callable[[], str]) -> Response:
    return await run_in_threadpool(_answer, request, site, task, draft, do)


def _answer(request: Request, site: Site, task: str, draft: dict[str, str], do: Callable[[], str]) -> Response:
    """Do it, and show the task as it is then; what was typed stays where it was not done."""
    try:
        notice = do()
    except HeadraceError as error:
        return shown(request, site, task, status_of(error), alarm=str(error), draft=draft)
    except RefusedError as error:
        return shown(request, site, task, error.status_code, alarm=str(error.detail), draft=draft)
    if "hx-request" not in request.headers:
        return RedirectResponse(f"/tasks/{task}", HTTPStatus.SEE_OTHER)
    return shown(request, site, task, notice=notice)


def reason_of(sent: dict[str, str]) -> str:
    """Return the reason that was given; raises RefusedError without any."""
    reason = " ".join(sent.get("reason", "").split())
    if not 1 <= len(reason) <= REASON_CHARACTERS or not reason.isprintable():
        told = f"a reason is needed, of 1 to {REASON_CHARACTERS} characters: it stands in the record"
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, told)
    return reason


def number_of(sent: dict[str, str], name: str) -> int:
    """Return a whole number of the form; raises RefusedError for what is none."""
    text = sent.get(name, "").strip().removeprefix("v")
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name} {text[:40]!r}: a whole number is needed")
    return int(text)


def _decide(site: Site, caller: Caller, task: str, act: Act, sent: dict[str, str]) -> str:
    reason, seen_ts = reason_of(sent), number_of(sent, "seen")
    record = decided(site, caller, task, seen_ts, lambda control: _decided(control, task, act, reason, sent))
    _wait(lambda: any(one == record for one in [*site.view.task(task).decisions]))
    serves = f"v{record.version} serves" if record.version else "Nothing serves"
    held = "; promotion is on hold" if record.held else "; learning may promote"
    return f"Done: {serves} {task}{held}. The record has your name ({record.decided_by}) and reason."


def _decided(control: Control, task: str, act: Act, reason: str, sent: dict[str, str]) -> ServingPolicy:
    if act == "promote":
        return control.promote(task, number_of(sent, "version"), reason)
    if act == "rollback":
        number = number_of(sent, "version") if sent.get("version", "").strip() else None
        return control.rollback(task, reason, number, hold="hold" in sent)
    return control.hold(task, reason, held=act == "hold")


def _direct(site: Site, caller: Caller, task: str, directive_id: str, act: directing.Act, sent: dict[str, str]) -> str:
    reason, seen_ts = reason_of(sent), number_of(sent, "seen")
    services = site.services
    with site.deciding:
        record = directing.direct(services.log, services.clock, task, directive_id, act, caller.name, reason, seen_ts)
    _wait(lambda: site.view.task(task).directives.get(directive_id) == record)
    return f"Done: {directing.told(record, act)}. The record has your name and reason."


def _replay(site: Site, rule: str) -> str:
    if rule and rule not in RULE_NAMES:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"rule {rule[:40]!r}: there is no such rule")
    done = replay(site.services.log, (rule,) if rule else LATER_RULES, again=bool(rule))
    gone = f"; {done.gone} could not be, as the log holds them no longer" if done.gone else ""
    messages = "1 message was" if done.sent == 1 else f"{done.sent:,} messages were"
    return f"Done: {messages} sent again{gone}. Ingest judges them anew."


def _wait(there: Callable[[], bool]) -> None:
    until_s = time.monotonic() + SEEN_S
    while not there() and time.monotonic() < until_s:
        time.sleep(0.02)
