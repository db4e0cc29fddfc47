"""Sign-in and sign-out, and a person's own account."""

import hmac
import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from clinician_dashboard.access.access import Access
from clinician_dashboard.access.door import (
    CHANGE_PASSWORD,
    COOKIE,
    FIRST_ADMIN,
    MAX_CREDENTIAL,
    SECURE_COOKIE,
    SIGN_IN,
    cookie_of,
    is_https,
    local_path,
)
from clinician_dashboard.access.errors import AccessError, PasswordRefused, SignInFailed, TooManyTries
from clinician_dashboard.access.passwords import MIN_LENGTH
from clinician_dashboard.access.sessions import Identity
from clinician_dashboard.access.web import anybody, home_of, signed_in, signed_in_person
from clinician_dashboard.web.pages import Pages

FORM_COOKIE: Final = "hemolink-form"
"""Ties the sign-in form to the browser that it was made for: nobody is signed in as somebody else by another site."""

STATE_COOKIE: Final = "hemolink-provider"
ANSWER: Final = "/sign-in/answer"

Text = Annotated[str, Form(max_length=500)]
Address = Annotated[str, Form(max_length=2000)]


def access_router(pages: Pages, access: Access) -> APIRouter:
    """Return the routes of sign-in and of a person's own account."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_sign_in(router, pages, access)
    _add_provider(router, pages, access)
    _add_account(router, pages, access)
    return router


def sign_in_page(
    pages: Pages, access: Access, request: Request, *, status: int = 200, **given: object
) -> Response:
    """Return the sign-in page, with a form that only this browser can send."""
    form = request.cookies.get(FORM_COOKIE, "")
    if not 20 <= len(form) <= 100:  # noqa: PLR2004 - what it makes has 43 letters
        form = secrets.token_urlsafe(32)
    shown: dict[str, object] = {"fault": "", "kept": [], "next": "/", "name": "", "ended": False}
    answer = pages.answer(
        request,
        "sign_in.html",
        status,
        **(
            shown
            | {
                "form_csrf": form,
                "first": "" if access.has_users else FIRST_ADMIN,
                "passwords": access.settings.passwords,
                "provider": access.provider_label,
            }
            | given
        ),
    )
    answer.set_cookie(
        FORM_COOKIE, form, httponly=True, samesite="strict", secure=is_https(request), path=SIGN_IN
    )
    return answer


def let_in(request: Request, token: str, where: str) -> Response:
    """Return the answer that gives a browser its session."""
    answer = RedirectResponse(where, 303)
    secure = is_https(request)
    answer.set_cookie(
        SECURE_COOKIE if secure else COOKIE, token, httponly=True, samesite="lax", secure=secure, path="/"
    )
    return answer


def client_address(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client is not None else "unknown"


def _add_sign_in(router: APIRouter, pages: Pages, access: Access) -> None:  # noqa: C901 - its routes are short
    opened = [Depends(anybody)]

    @router.get(SIGN_IN, dependencies=opened)
    def form(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name that people know
        identity: Identity | None = request.state.identity
        where = local_path(next, otherwise="/")
        if identity is not None and identity.is_person:
            return RedirectResponse(where if where != "/" else home_of(identity.actor), 303)
        return sign_in_page(pages, access, request, next=where)

    @router.post(SIGN_IN, dependencies=opened)
    def sign_in(
        request: Request,
        name: Text = "",
        password: Text = "",
        csrf: Text = "",
        next: Address = "/",  # noqa: A002
    ) -> Response:
        where = local_path(next, otherwise="/")
        expected = request.cookies.get(FORM_COOKIE, "")
        foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if foreign or not expected or not hmac.compare_digest(csrf.encode(), expected.encode()):
            return sign_in_page(
                pages,
                access,
                request,
                status=403,
                next=where,
                name=name,
                fault="This form was out of date. Try again.",
            )
        old = cookie_of(request)
        try:
            token = access.sign_in(
                name,
                password,
                address=client_address(request),
                agent=request.headers.get("user-agent", ""),
                old=old if len(old) <= MAX_CREDENTIAL else "",
            )
        except TooManyTries as wait:
            answer = sign_in_page(pages, access, request, status=429, next=where, name=name, fault=str(wait))
            answer.headers["Retry-After"] = str(wait.wait_s)
            return answer
        except AccessError as refused:
            return sign_in_page(pages, access, request, status=401, next=where, name=name, fault=str(refused))
        identity = access.sessions.find(token)
        if where == "/" and identity is not None:
            where = home_of(identity.actor)
        return let_in(request, token, where)

    @router.post("/sign-out", dependencies=[Depends(signed_in_person)])
    def sign_out(request: Request) -> Response:
        access.sign_out(request.state.identity)
        answer = RedirectResponse(SIGN_IN, 303)
        for name in (COOKIE, SECURE_COOKIE):
            answer.delete_cookie(name, path="/", httponly=True, secure=name == SECURE_COOKIE, samesite="lax")
        answer.headers["Clear-Site-Data"] = '"cache"'
        return answer

    @router.get("/session", dependencies=[Depends(signed_in)], response_class=Response)
    def session(request: Request) -> Response:
        """Who is signed in, for a page that was open when a session ended; it also keeps an active user's session."""
        identity: Identity = request.state.identity
        return JSONResponse({"name": identity.actor.name, "role": identity.actor.role, "csrf": identity.csrf})


def _add_provider(router: APIRouter, pages: Pages, access: Access) -> None:
    opened = [Depends(anybody)]

    @router.get("/sign-in/provider", dependencies=opened)
    def leave(request: Request, next: str = "/") -> Response:  # noqa: A002
        where = local_path(next, otherwise="/")
        if access.provider is None or access.settings.oidc is None:
            return RedirectResponse(SIGN_IN, 303)
        base = access.settings.oidc.base_url or str(request.base_url)
        try:
            address, state = access.provider.begin(redirect=f"{base.rstrip('/')}{ANSWER}", where=where)
        except SignInFailed as refused:
            return sign_in_page(pages, access, request, status=503, next=where, fault=str(refused))
        answer = RedirectResponse(address, 303)
        answer.set_cookie(
            STATE_COOKIE,
            state,
            max_age=600,
            httponly=True,
            samesite="lax",
            secure=is_https(request),
            path=SIGN_IN,
        )
        return answer

    @router.get(ANSWER, dependencies=opened)
    def come_back(
        request: Request, code: str = "", state: str = "", iss: str = "", error: str = ""
    ) -> Response:
        if access.provider is None:
            return RedirectResponse(SIGN_IN, 303)
        address = client_address(request)
        old = cookie_of(request)
        try:
            if error:
                raise SignInFailed("The identity provider did not let you in.")
            person, where = access.provider.finish(
                state=state, kept=request.cookies.get(STATE_COOKIE, ""), code=code, issuer=iss
            )
            token = access.let_in(
                person,
                address=address,
                agent=request.headers.get("user-agent", ""),
                old=old if len(old) <= MAX_CREDENTIAL else "",
            )
        except AccessError as refused:
            access.refused_by_provider(str(refused), address=address)
            answer = sign_in_page(pages, access, request, status=403, fault=str(refused))
            answer.delete_cookie(STATE_COOKIE, path=SIGN_IN)
            return answer
        identity = access.sessions.find(token)
        if where == "/" and identity is not None:
            where = home_of(identity.actor)
        answer = let_in(request, token, where)
        answer.delete_cookie(STATE_COOKIE, path=SIGN_IN)
        return answer


def _add_account(router: APIRouter, pages: Pages, access: Access) -> None:  # noqa: C901 - its routes are short
    mine = [Depends(signed_in_person)]

    def show(request: Request, *, status: int = 200, fault: str = "", done: str = "") -> Response:
        identity: Identity = request.state.identity
        user = access.users.get(identity.actor.user_id or 0)
        return pages.answer(
            request,
            "account.html",
            status,
            page="account",
            user=user,
            sessions=access.sessions.of(user.id),
            min_length=MIN_LENGTH,
            fault=fault,
            done=done,
        )

    @router.get(CHANGE_PASSWORD, dependencies=mine)
    def account(request: Request) -> Response:
        return show(request)

    @router.post("/account/password", dependencies=mine)
    def change_password(request: Request, old: Text = "", password: Text = "", again: Text = "") -> Response:
        identity: Identity = request.state.identity
        actor = identity.actor
        user = access.users.get(actor.user_id or 0)
        try:
            if user.password_hash is not None:
                access.confirm_password(actor, old)
            if password != again:
                raise PasswordRefused("The two new passwords are not the same.")
            if password == old:
                raise PasswordRefused("The new password is the old one.")
            access.users.set_password(
                user.id, password, by=actor, must_change=False, keep_sha256=identity.key
            )
        except TooManyTries as wait:
            return show(request, status=429, fault=str(wait))
        except AccessError as refused:
            return show(request, status=400, fault=str(refused))
        if user.must_change:
            return RedirectResponse(home_of(actor), 303)
        return show(request, done="The password is changed, and every other browser is signed out.")

    @router.post("/account/sessions", dependencies=mine)
    def end_sessions(request: Request, session: Text = "") -> Response:
        identity: Identity = request.state.identity
        keys = [session] if session else None
        ended = access.sessions.end(
            identity.actor.user_id or 0,
            by=identity.actor,
            keys=keys,
            keep=identity.key if keys is None else "",
        )
        if access.sessions.get(identity.key) is None:
            return RedirectResponse(SIGN_IN, 303)
        return show(request, done=f"{ended} signed out." if ended else "There was none to sign out.")
