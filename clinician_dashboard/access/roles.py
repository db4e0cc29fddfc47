"""Roles, what each may do, and who acts: one table, and every cell of it is tested."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Role = Literal["technician", "haematologist", "lab_lead", "admin", "auditor"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

Permission = Literal[
    "cases.read",  # worklist, cases, frames, images, reports
    "cases.review",  # claim, view, confirm, override, resolve referred frames, critical calls
    "cases.sign",  # sign off and amend
    "fleet.read",  # devices, workers, dead letters, gaps, health
    "quality.read",  # override rate, drift
    "models.stop",  # the stop switch of a model version
    "labels.export",  # reviewed frames as a manifest
    "audit.read",
    "users.manage",  # users, and tokens of integrations
]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)

MATRIX: Final[dict[Role, frozenset[Permission]]] = {
    "technician": frozenset({"cases.read", "fleet.read"}),
    "haematologist": frozenset({"cases.read", "cases.review", "cases.sign", "fleet.read", "quality.read"}),
    "lab_lead": frozenset(
        {
            "cases.read",
            "cases.review",
            "cases.sign",
            "fleet.read",
            "quality.read",
            "models.stop",
            "labels.export",
            "audit.read",
        }
    ),
    "admin": frozenset({"fleet.read", "users.manage"}),
    "auditor": frozenset({"cases.read", "fleet.read", "quality.read", "audit.read"}),
}
"""An admin sees no case, and an auditor changes nothing: who gives the keys does not hold them."""


@dataclass(frozen=True)
class Actor:
    """Who did something, for the audit and for what is signed.

    Attributes:
        name: The login of a person, the name of a token, or ``system``.
        full_name: As it is printed under a signature; empty for a token and for the system.
        role: The role at that moment, or ``system``.
        user_id: The user's key; none for a token and for the system.
        via: The door: a page, the API, a command, or the daemon itself.
    """

    name: str
    role: Role | Literal["system"]
    full_name: str = ""
    user_id: int | None = None
    via: Literal["page", "api", "command", "daemon"] = "page"

    def may(self, permission: Permission) -> bool:
        """Return whether this role holds ``permission``; the system holds none that a route asks for."""
        return self.role != "system" and permission in MATRIX[self.role]


SYSTEM: Final = Actor("system", "system", via="daemon")
