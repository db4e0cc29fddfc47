"""The pages of users, of tokens and of the audit."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.access import Access
from clinician_dashboard.access.errors import AccessError, NoSuchOne
from clinician_dashboard.access.roles import MATRIX, PERMISSIONS, ROLES
from clinician_dashboard.access.tokens import is_good
from clinician_dashboard.access.users import check_role, random_password
from clinician_dashboard.access.web import PERMISSION_WORDS, ROLE_WORDS, actor_of, needs
from clinician_dashboard.audit.reader import COUNTED, Filter, fields_of, read_page
from clinician_dashboard.web.pages import Pages

ROWS: Final = 100
MAX_EXPORTED: Final = 5000

Text = Annotated[str, Form(max_length=500)]
Asked = Annotated[str, Query(max_length=200)]
Before = Annotated[int | None, Query(ge=1, le=2**62)]


def people_router(pages: Pages, access: Access) -> APIRouter:
    """Return the routes of users, tokens and the audit."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    desk = _Desk(pages, access)
    _add_users(router, desk, access)
    _add_tokens(router, desk, access)
    _add_audit(router, pages, access)
    return router


class _Desk:
    """Builds the page of users and tokens."""

    def __init__(self, pages: Pages, access: Access) -> None:
        self._pages = pages
        self._access = access

    def show(self, request: Request, *, status: int = 200, **given: Any) -> Response:
        shown = {"fault": "", "done": "", "secret": "", "secret_of": "", "typed": {}}
        at = now()
        return self._pages.answer(
            request,
            "users.html",
            status,
            page="users",
            users=self._access.users.all(),
            tokens=[(row, is_good(row, at)) for row in self._access.tokens.all()],
            roles=[(role, ROLE_WORDS[role]) for role in ROLES],
            matrix=[(PERMISSION_WORDS[one], [one in MATRIX[role] for role in ROLES]) for one in PERMISSIONS],
            provider=self._access.provider_label,
            **(shown | given),
        )

    def refuse(self, request: Request, error: AccessError, **typed: str) -> Response:
        status = 404 if isinstance(error, NoSuchOne) else 400
        return self.show(request, status=status, fault=str(error), typed=typed)


def _add_users(router: APIRouter, desk: _Desk, access: Access) -> None:
    managing = [Depends(needs("users.manage", person=True))]

    @router.get("/users", dependencies=managing)
    def users(request: Request) -> Response:
        return desk.show(request)

    @router.post("/users", dependencies=managing)
    def create(request: Request, name: Text = "", full_name: Text = "", role: Text = "") -> Response:
        password = random_password()
        try:
            made = access.users.create(
                name, full_name=full_name, role=check_role(role), by=actor_of(request), password=password
            )
        except AccessError as error:
            return desk.refuse(request, error, name=name, full_name=full_name, role=role)
        return desk.show(
            request,
            done=f"{made.full_name} may sign in as '{made.name}' with this password, and must then choose another:",
            secret=password,
        )

    @router.post("/users/{user_id}", dependencies=managing)
    def change(
        request: Request, user_id: int, full_name: Text = "", role: Text = "", active: Text = ""
    ) -> Response:
        try:
            row = access.users.change(
                user_id,
                by=actor_of(request),
                role=check_role(role),
                full_name=full_name,
                active=active == "yes",
            )
        except AccessError as error:
            return desk.refuse(request, error)
        return desk.show(request, done=f"'{row.name}' is changed.")

    @router.post("/users/{user_id}/password", dependencies=managing)
    def reset(request: Request, user_id: int) -> Response:
        password = random_password()
        try:
            row = access.users.get(user_id)
            access.users.set_password(user_id, password, by=actor_of(request), must_change=True)
        except AccessError as error:
            return desk.refuse(request, error)
        return desk.show(
            request,
            done=f"'{row.name}' is signed out everywhere. With this password they sign in, and must then choose another:",
            secret=password,
        )

    @router.post("/users/{user_id}/sessions", dependencies=managing)
    def sign_out(request: Request, user_id: int) -> Response:
        try:
            row = access.users.get(user_id)
        except AccessError as error:
            return desk.refuse(request, error)
        ended = access.sessions.end(user_id, by=actor_of(request), keep=request.state.identity.key)
        return desk.show(request, done=f"'{row.name}': {ended} signed out.")


def _add_tokens(router: APIRouter, desk: _Desk, access: Access) -> None:
    managing = [Depends(needs("users.manage", person=True))]

    @router.post("/tokens", dependencies=managing)
    def create(request: Request, name: Text = "", role: Text = "", days: Text = "365") -> Response:
        try:
            given = int(days) if days.strip() else None
        except ValueError:
            return desk.refuse(request, AccessError("A token ends after a number of days."))
        try:
            token = access.tokens.create(name, role=check_role(role), by=actor_of(request), days=given)
        except AccessError as error:
            return desk.refuse(request, error)
        return desk.show(
            request,
            done="The token, which is not shown again. Send it as 'Authorization: Bearer ...':",
            secret=token,
        )

    @router.post("/tokens/{token_id}/revoke", dependencies=managing)
    def revoke(request: Request, token_id: int) -> Response:
        try:
            access.tokens.revoke(token_id, by=actor_of(request))
        except AccessError as error:
            return desk.refuse(request, error)
        return desk.show(request, done="The token is good for nothing any more.")


def _add_audit(router: APIRouter, pages: Pages, access: Access) -> None:
    reading = [Depends(needs("audit.read"))]

    @router.get("/audit", dependencies=reading)
    def page(
        request: Request,
        who: Asked = "",
        what: Asked = "",
        subject: Asked = "",
        since: Asked = "",
        until: Asked = "",
        before: Before = None,
    ) -> Response:
        asked = {"who": who, "what": what, "subject": subject, "since": since, "until": until}
        wanted, fault = _filter(asked)
        with access.reading() as session:
            found = read_page(session, wanted, before=before, limit=ROWS)
        kept = {name: value for name, value in asked.items() if value}
        return pages.answer(
            request,
            "audit.html",
            400 if fault else 200,
            page="audit",
            found=found,
            counted=COUNTED,
            asked=asked,
            fault=fault,
            more=urlencode({**kept, "before": found.before}) if found.before is not None else "",
            first=urlencode(kept) if before is not None else None,
            export=urlencode(kept),
        )

    @router.get("/api/v1/audit", dependencies=reading, include_in_schema=True, response_class=JSONResponse)
    def export(
        request: Request,
        who: Asked = "",
        what: Asked = "",
        subject: Asked = "",
        since: Asked = "",
        until: Asked = "",
        before: Before = None,
        limit: Annotated[int, Query(ge=1, le=MAX_EXPORTED)] = 1000,
    ) -> Any:
        """The audit, the newest first; ``before`` asks for the rows before one. The export is in the audit itself."""
        wanted, fault = _filter(
            {"who": who, "what": what, "subject": subject, "since": since, "until": until}
        )
        if fault:
            return JSONResponse({"error": fault}, status_code=422)
        with access.reading() as session:
            found = read_page(session, wanted, before=before, limit=limit)
        with access.writing() as session:
            audit.append(
                session,
                actor=actor_of(request),
                action="audit.export",
                subject="audit",
                at=now(),
                rows=len(found.rows),
            )
        return {
            "matching": found.matching,
            "matching_counted_up_to": COUNTED,
            "before": found.before,
            "rows": [fields_of(row) for row in found.rows],
        }


def _filter(asked: dict[str, str]) -> tuple[Filter, str]:
    try:
        since, until = _day(asked["since"]), _day(asked["until"])
        return (
            Filter(
                who=asked["who"],
                what=asked["what"],
                subject=asked["subject"],
                since=since,
                until=until + timedelta(days=1) if until is not None else None,
            ),
            "",
        )
    except (ValueError, OverflowError):
        return Filter(), "Write days as 2031-12-31, in UTC."


def _day(text: str) -> datetime | None:
    return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC) if text.strip() else None
