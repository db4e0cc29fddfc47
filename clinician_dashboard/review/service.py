"""The review's one door: pages, API and commands act on cases through it, and nothing else does.

Every act is one transaction: it reads the case, checks the person and the page's revision, changes what it changes, writes the
audit and the outbox, and is committed whole or not at all. Pages are told afterwards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import select

from broker_config.messages import now
from clinician_dashboard.access.roles import Actor, Permission
from clinician_dashboard.audit import append
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.writer import Follower
from clinician_dashboard.review import blind, claims, critical, facts, patients, reading, signing
from clinician_dashboard.review.acting import Acting, allowed, expect
from clinician_dashboard.review.conclusions import words_of
from clinician_dashboard.review.critical import Call, OpenAlert
from clinician_dashboard.review.errors import NotAllowed
from clinician_dashboard.review.facts import ReviewFacts
from clinician_dashboard.review.opinions import Stage
from clinician_dashboard.review.reading import Word
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.signed import SignedVersion, signed_version, signed_versions
from clinician_dashboard.review.signing import OnSigned
from clinician_dashboard.review.tables import ReaderRow, ReviewRow
from clinician_dashboard.review.waiting import Waiting, waiting_for_a_reader

Confirm = Callable[[Actor, str], None]
OnChange = Callable[[str, str, bool], None]


class ReviewDesk:
    """What may be done with a case.

    Args:
        record: The open record.
        settings: Of the review.
        name: This dashboard's name, for messages that go out.
        on_change: Called after a commit with site, code, and whether a critical alert changed; must be quick.
        confirm: Makes sure that a password is the actor's, or raises.
        clock: Returns the present time in UTC.

    Attributes:
        on_signed: Called in the transaction of each signature with what was signed.
        on_moved: Called in the transaction of an act that moves a case in the worklist, with the case.
    """

    def __init__(
        self,
        record: Record,
        *,
        settings: ReviewSettings,
        name: str,
        on_change: OnChange,
        confirm: Confirm,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._record = record
        self.settings = settings
        self._name = name
        self._on_change = on_change
        self._confirm = confirm
        self._clock = clock
        self.on_signed: list[OnSigned] = []
        self.on_moved: list[Follower] = []

    # Acts

    def claim(self, actor: Actor, site: str, code: str, *, revision: int | None = None) -> None:
        """Give the case to ``actor``; see `claims.claim`."""
        with self._act(actor, site, code, "cases.review", revision) as act:
            claims.claim(act)

    def release(self, actor: Actor, site: str, code: str, *, revision: int | None = None) -> None:
        """Give the case back."""
        with self._act(actor, site, code, "cases.review", revision) as act:
            claims.release(act)

    def take_over(
        self, actor: Actor, site: str, code: str, *, reason: str, revision: int | None = None
    ) -> None:
        """Take the case from whoever has it; the lab lead only."""
        with self._act(actor, site, code, "cases.review", revision) as act:
            claims.take_over(act, reason=reason)

    def view(self, actor: Actor, site: str, code: str, frame_ids: Sequence[str]) -> int:
        """Note that ``actor`` opened frames."""
        allowed(actor, "cases.review")
        with self._record.transaction() as session:
            return reading.view(
                session,
                facts.find_case(session, site, code),
                actor,
                frame_ids,
                at=self._clock(),
                claim_minutes=self.settings.claim_minutes,
            )

    def resolve(
        self, actor: Actor, site: str, code: str, frame_id: str, *, label: str, reason: str = ""
    ) -> None:
        """Give a frame a class, or call it not assessable."""
        with self._act(actor, site, code, "cases.review", None) as act:
            reading.resolve(act, frame_id, label=label, reason=reason)

    def impression(
        self, actor: Actor, site: str, code: str, word: Word, *, revision: int | None = None
    ) -> None:
        """Keep a first impression, given blind."""
        with self._act(actor, site, code, "cases.review", revision) as act:
            reading.impression(act, word)

    def conclude(
        self, actor: Actor, site: str, code: str, word: Word, *, revision: int | None = None
    ) -> Stage:
        """Record a conclusion; returns as which reader it counts."""
        with self._act(actor, site, code, "cases.review", revision) as act:
            return reading.conclude(act, word)

    def acknowledge(self, actor: Actor, site: str, code: str) -> None:
        """Acknowledge a critical alert."""
        with self._act(actor, site, code, "cases.review", None) as act:
            critical.acknowledge(act)

    def log_call(self, actor: Actor, site: str, code: str, call: Call) -> None:
        """Log the call that told a person."""
        with self._act(actor, site, code, "cases.review", None) as act:
            critical.log_call(act, call)

    def close_alert(self, actor: Actor, site: str, code: str, *, reason: str) -> None:
        """Close a critical alert without a call, with the reason."""
        with self._act(actor, site, code, "cases.review", None) as act:
            critical.close(act, reason=reason)

    def name_patient(
        self, actor: Actor, site: str, code: str, patient_code: str, *, revision: int | None = None
    ) -> None:
        """Say by an opaque code which cases are of one patient; see `patients.name_patient`."""
        with self._act(actor, site, code, "cases.review", revision) as act:
            patients.name_patient(act, patient_code)

    def sign(
        self,
        actor: Actor,
        site: str,
        code: str,
        *,
        password: str,
        warned: bool = False,
        amend_reason: str = "",
        revision: int | None = None,
    ) -> SignedVersion:
        """Sign the case, or amend what was signed, after asking for the password again.

        Raises:
            OutOfDate: If something was done since the page was made; the password is then not asked.
            NotReady: If a gate is not met; the same.
        """
        allowed(actor, "cases.sign")
        if actor.user_id is None:
            raise NotAllowed("Only a person with a password may sign, no integration.")
        at = self._clock()
        with self._record.snapshot() as session:
            before = facts.read(session, site, code, at=at)
        expect(before, revision)  # first: what stands against a signature now may be that somebody has signed
        signing.check(before, before.gates(actor, at=at, amend_reason=amend_reason), warned=warned)
        self._confirm(actor, password)  # slow on purpose, and so outside the transaction
        with self._act(actor, site, code, "cases.sign", revision) as act:
            return signing.sign(act, warned=warned, amend_reason=amend_reason, on_signed=self.on_signed)

    def choose_blind(self, actor: Actor, *, blind_first: bool) -> None:
        """Let a reader choose to read before seeing the model's answer."""
        allowed(actor, "cases.review")
        with self._record.transaction() as session:
            row = session.get(ReaderRow, actor.name) or ReaderRow(name=actor.name)
            row.blind = blind_first
            session.add(row)
            append(
                session,
                actor=actor,
                action="reader.blind",
                subject=f"user:{actor.name}",
                at=self._clock(),
                blind=blind_first,
            )

    # What is known

    def read(self, site: str, code: str) -> ReviewFacts:
        """Return what is known of a case's review."""
        with self._record.snapshot() as session:
            return facts.read(session, site, code, at=self._clock())

    def hidden(self, actor: Actor, found: ReviewFacts) -> bool:
        """Return whether the model's answer for a case is hidden from ``actor``."""
        with self._record.session() as session:
            return blind.hidden_from(session, found, actor, settings=self.settings)

    def hidden_cases(self, actor: Actor, cases: Sequence[CaseRow]) -> frozenset[int]:
        """Return the ids of those of ``cases`` whose answer is hidden from ``actor``."""
        with self._record.session() as session:
            return blind.hidden_cases(session, list(cases), actor, settings=self.settings)

    def alone_cases(self, actor: Actor, cases: Sequence[CaseRow]) -> frozenset[int]:
        """Return the ids of those of ``cases`` of which other readers' suspicion is kept from ``actor``."""
        with self._record.session() as session:
            return blind.alone_cases(session, list(cases), actor, settings=self.settings)

    def by_arrival(self, actor: Actor, site: str) -> bool:
        """Return whether the worklist of ``actor`` is in the order of arrival; see `blind.by_arrival`."""
        with self._record.session() as session:
            return blind.by_arrival(session, site, actor, settings=self.settings)

    def reads_blind(self, actor: Actor) -> bool:
        """Return whether ``actor`` chose to read blind first."""
        with self._record.session() as session:
            return blind.wants(session, actor)

    def versions(self, case_id: int) -> tuple[SignedVersion, ...]:
        """Return the signed versions of a case."""
        with self._record.session() as session:
            return signed_versions(session, case_id)

    def signed_words(self, case_ids: Sequence[int]) -> Mapping[int, str]:
        """Return what stands signed for those of ``case_ids`` that are signed, in words."""
        if not case_ids:
            return {}
        asked = select(ReviewRow.case_id, ReviewRow.signed_conclusion).where(
            ReviewRow.case_id.in_(case_ids), ReviewRow.signed_version > 0
        )
        with self._record.session() as session:
            return {case_id: words_of(code or "") for case_id, code in session.execute(asked)}

    def version(self, site: str, code: str, number: int) -> SignedVersion | None:
        """Return one signed version of a case, or none."""
        with self._record.session() as session:
            return signed_version(session, site, code, number)

    def prior(self, case: CaseRow) -> Sequence[patients.Prior]:
        """Return earlier and other smears of the same patient or case code."""
        with self._record.snapshot() as session:
            return patients.prior_smears(session, case)

    def alerts(self, *, limit: int = 50) -> Sequence[OpenAlert]:
        """Return the critical alerts that are not closed."""
        with self._record.session() as session:
            return critical.open_alerts(session, limit=limit)

    def waiting(self, actor: Actor) -> Sequence[Waiting]:
        """Return the cases that wait for a reader other than those who have read them, and that ``actor`` could be."""
        with self._record.snapshot() as session:
            return [one for one in waiting_for_a_reader(session) if actor.name not in one.readers]

    def open_counts(self) -> dict[str, int]:
        """Return how many alerts are open in each state."""
        with self._record.session() as session:
            return critical.count_open(session)

    def closed_alerts(self, *, limit: int, offset: int = 0) -> tuple[Sequence[OpenAlert], int]:
        """Return closed alerts, the latest first, and how many there are."""
        with self._record.snapshot() as session:
            return critical.closed_calls(session, limit=limit, offset=offset), critical.count_closed(session)

    # Inside

    @contextmanager
    def _act(
        self,
        actor: Actor,
        site: str,
        code: str,
        permission: Permission,
        revision: int | None,
    ) -> Iterator[Acting]:
        allowed(actor, permission)
        at = self._clock()
        with self._record.transaction() as session:
            found = facts.read(session, site, code, at=at)
            act = Acting(session, actor, found, at, self.settings, self._name)
            act.expect(revision)
            yield act
            if act.mirror():
                for follow in self.on_moved:
                    follow(session, [act.case], at)
        self._on_change(site, code, act.alerted)
