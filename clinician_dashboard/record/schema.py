"""The whole schema: importing this module makes every table of the dashboard known to `Table.metadata`."""

from clinician_dashboard.access import tables as access
from clinician_dashboard.audit import tables as audit
from clinician_dashboard.delivery import tables as delivery
from clinician_dashboard.outbox import tables as outbox
from clinician_dashboard.record import desk_tables
from clinician_dashboard.record.tables import Table
from clinician_dashboard.review import tables as review

__all__ = ["Table", "access", "audit", "delivery", "desk_tables", "outbox", "review"]
