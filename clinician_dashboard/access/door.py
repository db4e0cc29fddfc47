"""The door before every route: who sends a request, by cookie or by token; nobody gets past it but to what is open."""

import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clinician_dashboard.access.access import Access
from clinician_dashboard.access.sessions import Identity
from clinician_dashboard.access.web import CSRF_FIELD, FORM_TYPES, OPEN_PREFIX, SAFE_METHODS
from clinician_dashboard.record.faults import unreadable

logger = logging.getLogger(__name__)

COOKIE: Final = "hemolink"
SECURE_COOKIE: Final = "__Host-hemolink"
SIGN_IN: Final = "/sign-in"
CHANGE_PASSWORD: Final = "/account"  # noqa: S105 - a path
ACTIVE_HEADER: Final = "x-active"
MAX_CREDENTIAL: Final = 512
MAX_KEPT_BYTES: Final = 64 * 1024
FIRST_ADMIN: Final = (
    "Nobody can sign in yet. On the machine that runs the dashboard, make the first admin with: "
    "hemolink dashboard create-admin --settings dashboard.yaml"
)
_BEFORE_CHANGE: Final = frozenset({CHANGE_PASSWORD, "/account/password", "/sign-out", "/session"})
_BY_ITSELF: Final = ("/fragments/", "/api/", "/session")
"""What a page that stays open asks for by itself, which does not keep its session alive."""

Say = Callable[[Request, int, str], Response]
Ended = Callable[[Request, list[tuple[str, str]], str], Response]


class Refused(Exception):
    """Raised when a request carries what cannot be used as a credential."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Door:
    """ASGI middleware.

    Args:
        app: What it stands before.
        access: Who may come in.
        open_paths: Paths that ask for no sign-in.
        say: Makes the answer to an error.
        ended: Makes the answer to a form that was sent after its session had ended, from its fields and its page.
    """

    def __init__(
        self, app: ASGIApp, access: Access, *, open_paths: frozenset[str], say: Say, ended: Ended
    ) -> None:
        self._app = app
        self._access = access
        self._open = open_paths
        self._say = say
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find out who asks, and pass it on or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state.update(identity=None, actor=None, notebook=self._access.notebook)
        path: str = scope["path"]
        scope["hemolink.always_https"] = self._access.settings.always_https
        if path.startswith(OPEN_PREFIX) or (path in self._open and not path.startswith(SIGN_IN)):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = await self._admit(request, path)
        await (answer or self._app)(scope, receive, send)

    async def _admit(self, request: Request, path: str) -> Response | None:
        try:
            identity = await run_in_threadpool(self._identify, request)
            if identity is None and path not in self._open:
                return await self._turn_away(request, path)
        except Refused as refused:
            return self._plain(request, refused.status, str(refused))
        except SQLAlchemyError as error:
            logger.error("who asks could not be read: %s", error)  # noqa: TRY400 - the sentence says it all
            return self._plain(request, 503, unreadable(error))
        request.state.identity = identity
        request.state.actor = identity.actor if identity is not None else None
        if identity is not None and identity.must_change and path not in (self._open | _BEFORE_CHANGE):
            if path.startswith("/api/") or request.method not in SAFE_METHODS:
                return self._plain(
                    request, 403, "Choose a password of your own first, on the page 'Your account'."
                )
            return RedirectResponse(CHANGE_PASSWORD, 303)
        return None

    def _identify(self, request: Request) -> Identity | None:
        token = cookie_of(request)
        bearer = request.headers.get("authorization")
        if bearer is not None:
            return self._integration(bearer, token)
        if not token:
            return None
        if len(token) > MAX_CREDENTIAL:
            return None
        identity = self._access.sessions.find(token)
        if identity is not None and _by_its_user(request):
            self._access.notebook.seen(identity.key)
        return identity

    def _integration(self, header: str, cookie: str) -> Identity:
        if cookie:
            raise Refused(400, "A request carries a cookie or a token, not both.")
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or len(token) > MAX_CREDENTIAL:
            raise Refused(401, "Send a token as 'Authorization: Bearer hml_...'.")
        identity = self._access.tokens.find(token.strip())
        if identity is None:
            raise Refused(401, "The token is unknown, revoked or over: an admin makes another one.")
        self._access.notebook.seen(identity.key)
        return identity

    async def _turn_away(self, request: Request, path: str) -> Response:
        first = not await run_in_threadpool(lambda: self._access.has_users)
        if path.startswith(("/api/", "/fragments/", "/session")):
            return self._plain(request, 401, FIRST_ADMIN if first else "Sign in, or send a token.")
        if request.method in SAFE_METHODS:
            wanted = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{SIGN_IN}?next={quote(wanted, safe='')}", 303)
        fields, back = await _kept(request)
        return self._ended(request, fields, back)

    def _plain(self, request: Request, status: int, message: str) -> Response:
        headers = {"WWW-Authenticate": 'Bearer realm="hemolink"'} if status == 401 else {}  # noqa: PLR2004
        if request.url.path.startswith(("/api/", "/session")):
            return JSONResponse({"error": message}, status_code=status, headers=headers)
        answer = self._say(request, status, message)
        answer.headers.update(headers)
        return answer


def cookie_of(request: Request) -> str:
    """Return the session's cookie, empty if there is none."""
    name = SECURE_COOKIE if is_https(request) else COOKIE
    # Each header by itself, since a browser may send several; a name that comes twice is not believed.
    found = [
        value
        for header in Headers(scope=request.scope).getlist("cookie")
        for value in [cookie_parser(header).get(name)]
        if value
    ]
    return found[0] if len(found) == 1 else ""


def is_https(request: Request) -> bool:
    """Return whether the cookie must go over https only."""
    return request.url.scheme == "https" or bool(request.scope.get("hemolink.always_https"))


def local_path(wanted: str, *, otherwise: str) -> str:
    """Return ``wanted`` if it is a path on this server that one may be sent to after sign-in."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return otherwise
    ours = (
        wanted.startswith("/")
        and not wanted.startswith(("//", "/\\"))
        and not parts.netloc
        and not parts.scheme
    )
    clean = wanted.isprintable() and "\\" not in wanted and len(wanted) <= 2000  # noqa: PLR2004
    dull = parts.path.startswith((SIGN_IN, "/sign-out", "/fragments/", "/session"))
    return wanted if ours and clean and not dull else otherwise


def _by_its_user(request: Request) -> bool:
    if request.headers.get(ACTIVE_HEADER) == "1" or request.method not in SAFE_METHODS:
        return True
    return not request.url.path.startswith(_BY_ITSELF)


async def _kept(request: Request) -> tuple[list[tuple[str, str]], str]:
    """Return the fields of a form that came too late, for its writer to copy, and the page that it stood on."""
    if not request.headers.get("content-type", "").startswith(FORM_TYPES[0]):
        return [], "/"
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_KEPT_BYTES:
                return [], "/"
    except ClientDisconnect:
        return [], "/"
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=100)
    except ValueError:
        return [], "/"
    back = dict(fields).get("back", "/")
    shown = [
        (name, value)
        for name, value in fields
        if value and name not in (CSRF_FIELD, "back") and "password" not in name.lower()
    ]
    return shown, local_path(back, otherwise="/")
