"""What users, sessions and tokens are kept in: the open record, or the record beside a dashboard that runs."""

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy.orm import Session


class Store(Protocol):
    """A record, as far as this package needs it. `clinician_dashboard.record.Record` is one."""

    def session(self) -> Session:
        """Return a new session for reading; the caller closes it."""

    def transaction(self) -> AbstractContextManager[Session]:
        """Give a session in a transaction that is committed at the end of the block, or rolled back if it raises."""
