"""Cases that wait for another reader: nobody would know of them, since their first reader has done their part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.facts import readings
from clinician_dashboard.review.opinions import stand
from clinician_dashboard.review.tables import OpinionRow, ReviewRow

MOST = 200


@dataclass(frozen=True)
class Waiting:
    """A case that waits for another reader.

    Attributes:
        case: Its row.
        place: As which reader: the second, or a third who decides.
        why: In words.
        since: The latest reading.
        readers: Logins of who has read it, who cannot be the one.
    """

    case: CaseRow
    place: Literal["second", "third"]
    why: str
    since: OpinionRow
    readers: frozenset[str]


def waiting_for_a_reader(session: Session) -> Sequence[Waiting]:
    """Return the cases that wait for another reader, critical ones first, then the longest wait; at most 200 are looked at."""
    # An amendment waits like a first reading, whether or not anybody has claimed it.
    amended = select(OpinionRow.case_id).where(OpinionRow.round > 1)
    concluded = exists().where(
        OpinionRow.case_id == ReviewRow.case_id,
        OpinionRow.round == ReviewRow.signed_version + 1,
        OpinionRow.stage != "impression",
    )
    under_way = session.execute(
        select(CaseRow, ReviewRow)
        .join(ReviewRow, ReviewRow.case_id == CaseRow.id)
        .where(or_(ReviewRow.status == "preliminary", ReviewRow.case_id.in_(amended)), concluded)
        .order_by(CaseRow.urgency_rank, ReviewRow.changed_at.desc())
        .limit(MOST)
    ).all()
    said: dict[int, list[OpinionRow]] = {}
    ids = [case.id for case, _review in under_way]
    for row in session.scalars(select(OpinionRow).where(OpinionRow.case_id.in_(ids)).order_by(OpinionRow.id)):
        said.setdefault(row.case_id, []).append(row)
    found = []
    for case, review in under_way:
        rows = [row for row in said.get(case.id, ()) if row.round == review.signed_version + 1]
        standing = stand(readings(rows), critical=case.model_urgency == "critical")
        readers = frozenset(row.reader for row in rows if row.stage != "impression")
        if standing.second_needed and standing.second is None:
            found.append(Waiting(case, "second", standing.second_needed, rows[-1], readers))
        elif standing.disagree and standing.adjudication is None:
            found.append(Waiting(case, "third", "the two readers disagree", rows[-1], readers))
    return sorted(found, key=lambda one: (one.case.urgency_rank, one.since.at))
