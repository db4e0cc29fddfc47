"""What a route says of who may use it, and what it learns of who does.

Every route names a permission by `needs`, or says by `signed_in` or `anybody` that it asks for none. `check_routes` refuses
an application in which one does not, so that nothing is open because somebody forgot.
"""

import hmac
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.routing import BaseRoute, Mount, Route

from broker_config.messages import now
from clinician_dashboard.access.roles import MATRIX, PERMISSIONS, ROLES, Actor, Permission
from clinician_dashboard.access.sessions import Identity

if TYPE_CHECKING:
    from clinician_dashboard.access.notebook import Notebook

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
FORM_TYPES: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
OPEN_PREFIX: Final = "/static/"

ROLE_WORDS: Final = {
    "technician": "technician",
    "haematologist": "haematologist",
    "lab_lead": "lab lead",
    "admin": "admin",
    "auditor": "auditor",
    "system": "system",
}
PERMISSION_WORDS: Final[dict[Permission, str]] = {
    "cases.read": "see cases",
    "cases.review": "review cases",
    "cases.sign": "sign cases",
    "fleet.read": "see microscopes and workers",
    "quality.read": "see quality over time",
    "models.stop": "stop a model",
    "labels.export": "export reviewed frames",
    "audit.read": "read the audit",
    "users.manage": "manage users and tokens",
}


class Needs:
    """A dependency that lets a request through if its actor holds a permission; it returns the actor.

    Args:
        permission: What the actor must hold; none: to be signed in is enough.
        person: Whether it must be a signed-in person, no integration's token.
    """

    def __init__(self, permission: Permission | None, *, person: bool = False) -> None:
        if permission is not None and permission not in PERMISSIONS:
            raise ValueError(f"there is no permission '{permission}': see access/roles.py")
        self.permission = permission
        self.person = person

    async def __call__(self, request: Request) -> Actor:
        """Return who acts.

        Raises:
            HTTPException: 401 if nobody is signed in, 403 with the reason if the actor may not.
        """
        identity: Identity | None = request.state.identity
        if identity is None:
            raise HTTPException(401, "Sign in first.")
        actor = identity.actor
        if self.permission is not None and not actor.may(self.permission):
            raise HTTPException(403, refusal(actor, self.permission))
        if self.person and not identity.is_person:
            raise HTTPException(
                403, "This needs a signed-in person: a token of an integration may not do it."
            )
        if request.method not in SAFE_METHODS and identity.csrf:
            await check_csrf(request, identity.csrf)
        return actor


def needs(permission: Permission, *, person: bool = False) -> Needs:
    """Return the dependency of a route that needs ``permission``: ``Depends(needs("cases.read"))``."""
    return Needs(permission, person=person)


signed_in: Final = Needs(None)
"""The dependency of a route for whoever is signed in, tokens included."""
signed_in_person: Final = Needs(None, person=True)
"""The dependency of a route for a signed-in person's own affairs."""


def anybody() -> None:
    """The dependency of a route that asks for no sign-in: health, metrics, and sign-in itself."""


def refusal(actor: Actor, permission: Permission) -> str:
    """Return why an actor may not do something, in words."""
    able = [ROLE_WORDS[role] for role in ROLES if permission in MATRIX[role]]
    those = f"{', '.join(able[:-1])} and {able[-1]}" if len(able) > 1 else able[0]
    article = "an" if ROLE_WORDS[actor.role][0] in "aeiou" else "a"
    return (
        f"You are signed in as {article} {ROLE_WORDS[actor.role]}, who may not {PERMISSION_WORDS[permission]}. "
        f"Who may: {those}. An admin gives roles."
    )


async def check_csrf(request: Request, expected: str) -> None:
    """Raise unless an unsafe request comes from a page of ours.

    Raises:
        HTTPException: 403.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This was sent from a page of another site, so it was not done.")
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith(FORM_TYPES):
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    if given is None or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(
            403,
            "This page is of an earlier session, so nothing was done. Open it again, and repeat what you did.",
        )


def actor_of(request: Request) -> Actor:
    """Return who acts, behind a dependency that let them through."""
    actor: Actor = request.state.actor
    return actor


def saw_case(request: Request, site: str, code: str, *, what: str = "case.view") -> None:
    """Note in the audit, a moment later, that whoever asks saw a case; once a session, case and kind."""
    identity: Identity | None = request.state.identity
    notebook: Notebook | None = getattr(request.state, "notebook", None)
    if identity is not None and notebook is not None:
        # A token has no session: it is told once a day.
        key = identity.key if identity.is_person else f"{identity.key}@{now():%Y-%m-%d}"
        notebook.looked(identity.actor, key, subject=f"case:{site}/{code}", what=what)


def template_context(request: Request) -> dict[str, object]:
    """Return what templates may use: ``actor``, ``may(permission)``, ``csrf`` and ``csrf_field()``."""
    identity: Identity | None = getattr(request.state, "identity", None)
    csrf = identity.csrf if identity is not None else ""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")

    def field() -> Markup:
        return Markup(
            '<input type="hidden" name="csrf" value="{}"><input type="hidden" name="back" value="{}">'
        ).format(csrf, back if request.method == "GET" else "")

    def may(permission: Permission) -> bool:
        return identity is not None and not identity.must_change and identity.actor.may(permission)

    return {
        "actor": identity.actor if identity is not None else None,
        "actor_role": ROLE_WORDS[identity.actor.role] if identity is not None else "",
        "session_key": identity.key[:16] if identity is not None else "",
        "csrf": csrf,
        "csrf_field": field,
        "may": may,
        "home": home_of(identity.actor) if identity is not None else "/",
    }


def home_of(actor: Actor) -> str:
    """Return the page that somebody lands on."""
    return "/" if actor.may("cases.read") else "/fleet"


# That every route says who may use it


def declared(route: APIRoute) -> Needs | Callable[[], None] | None:
    """Return what a route says of who may use it; none if it says nothing."""
    found = [call for call in _calls(route.dependant) if isinstance(call, Needs) or call is anybody]
    needed = [call for call in found if isinstance(call, Needs)]
    if len({one.permission for one in needed}) > 1 or 0 < len(needed) < len(found):
        raise ValueError(f"{route.path} says twice who may use it, and not the same")
    return next((one for one in needed if one.person), found[0] if found else None)


def _calls(dependant: Dependant) -> Iterator[Callable[..., object]]:
    for one in dependant.dependencies:
        if one.call is not None:
            yield one.call
        yield from _calls(one)


def each_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield every route, those of included routers too, whether the framework copies them or refers to them."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from each_route(included.routes)


def open_paths(app: FastAPI) -> frozenset[str]:
    """Return the paths that ask for no sign-in."""
    return frozenset(
        route.path
        for route in each_route(app.routes)
        if isinstance(route, APIRoute) and declared(route) is anybody
    )


def check_routes(app: FastAPI) -> None:
    """Raise if a route does not say who may use it.

    Raises:
        ValueError: With its path.
    """
    for route in each_route(app.routes):
        if isinstance(route, APIRoute):
            if declared(route) is None:
                raise ValueError(
                    f"{route.path} does not say who may use it: add dependencies=[Depends(needs(...))]"
                )
            if declared(route) is anybody and "{" in route.path:
                raise ValueError(f"{route.path} is open to anybody, so its path must be fixed")
        elif not _is_known(route):
            raise ValueError(f"{route!r} is not a route that can say who may use it")


def _is_known(route: BaseRoute) -> bool:
    static = isinstance(route, Mount) and f"{route.path}/" == OPEN_PREFIX
    schema = isinstance(route, Route) and route.path == "/api/v1/openapi.json"
    return static or schema
