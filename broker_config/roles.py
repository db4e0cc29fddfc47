"""Who may publish and receive what: the delivery table turned into one set of rules for each member of a site.

Every device, worker, dashboard and operator has a user name of its own. A rule names exact topics where the member
has them (its own site, device or worker) and a wildcard where the role serves everyone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from broker_config.delivery import DELIVERY, Delivery, Role
from broker_config.errors import TopicError
from broker_config.topics import FLEET, VERSION, TopicKind, Topics, check_level

ROLES: tuple[Role, ...] = get_args(Role)
Access = Literal["read", "write"]


@dataclass(frozen=True, order=True)
class Member:
    """One user of the broker.

    Attributes:
        role: What it is.
        name: The device of an edge, otherwise a name of its own.
        site: The site of an edge. For a dashboard or an operator, the only site it sees, or empty for all.
    """

    role: Role
    name: str
    site: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise TopicError(f"role {self.role!r} is unknown: use one of {', '.join(ROLES)}")
        check_level(self.name, name=f"{self.role} name")
        if self.site:
            check_level(self.site, name="site")
        elif self.role == "edge":
            raise TopicError(f"edge {self.name!r} has no site: give it as SITE/DEVICE")
        if self.role == "worker" and self.site:
            raise TopicError(f"worker {self.name!r} has a site, but a worker serves every site: leave it out")

    @property
    def username(self) -> str:
        """Its user name and client id; the dots keep it unambiguous, since no level of a topic may hold one."""
        return ".".join(part for part in (self.role, self.site, self.name) if part)


@dataclass(frozen=True)
class Rule:
    """One access rule: ``access`` to every topic that ``topic_filter`` matches."""

    access: Access
    topic_filter: str


def rules(member: Member, *, root: str = "hemolink") -> tuple[Rule, ...]:
    """Return everything that ``member`` may publish and receive, by the delivery table.

    Args:
        member: The user.
        root: First level of every topic.
    """
    Topics(root)  # refuses a root that may not stand in a topic
    found: list[Rule] = []
    for kind, row in DELIVERY.items():
        for access, roles in (("write", row.publishers), ("read", row.subscribers)):
            if member.role in roles and not (access == "write" and _concerns_all(kind, member)):
                found.append(Rule(access, _filter(kind, member, root=root, owns=_owns(row, member))))  # type: ignore[arg-type]
    return tuple(dict.fromkeys(found))


def _concerns_all(kind: TopicKind, member: Member) -> bool:
    """Whether a member of one site would speak for every site."""
    return kind == "fleet-stops" and bool(member.site)


def _owns(row: Delivery, member: Member) -> bool:
    """Whether the topics of this row that concern the member are its own alone."""
    return member.role == "edge" or (row.kind == "worker-state" and member.role in row.publishers)


def _filter(kind: TopicKind, member: Member, *, root: str, owns: bool) -> str:
    base = f"{root}/{VERSION}"
    if kind in ("fleet-model", "fleet-stops"):
        return f"{base}/{FLEET}/{kind.removeprefix('fleet-')}"
    if kind == "worker-state":
        return f"{base}/{FLEET}/{member.name if owns and member.role == 'worker' else '+'}/state"
    device = f"{base}/{member.site or '+'}/{member.name if owns else '+'}"
    match kind:
        case "frame":
            return f"{device}/frame/+"
        case "command":
            return f"{device}/command/+"
        case "response":
            return f"{device}/command/+/response"
        case _:
            return f"{device}/{kind}"


def render_acl(members: Iterable[Member], *, root: str = "hemolink") -> str:
    """Return the text of a Mosquitto access file; whatever it does not allow is denied.

    Args:
        members: Every user of the broker.
        root: First level of every topic.

    Raises:
        TopicError: If two members have one user name.
    """
    lines = [
        "# Made by 'hemolink broker' from the delivery table; change it there.",
        "# What is not listed is denied.",
    ]
    seen: set[str] = set()
    for member in sorted(members):
        if member.username in seen:
            raise TopicError(f"{member.username} stands twice: give every member a name of its own")
        seen.add(member.username)
        lines += ["", f"user {member.username}"]
        lines += [f"topic {rule.access} {rule.topic_filter}" for rule in rules(member, root=root)]
    return "\n".join(lines) + "\n"


def parse_member(role: Role, text: str) -> Member:
    """Read a member as it is written on the command line: ``SITE/NAME``, or ``NAME`` where no site is meant.

    Raises:
        TopicError: If it is neither, or a part may not stand in a topic.
    """
    parts = text.split("/")
    if len(parts) > 2:  # noqa: PLR2004 - SITE/NAME
        raise TopicError(f"{role} {text!r} is not SITE/NAME")
    return Member(role, parts[-1], parts[0] if len(parts) > 1 else "")
