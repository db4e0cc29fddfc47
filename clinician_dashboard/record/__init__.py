"""The record: SQLite (or another database through SQLAlchemy) and a content-addressed folder of images.

`Record` opens it, `RecordWriter` is its only writer, `RecordReader` answers the pages. Times are UTC throughout.
It imports `broker_config` and the case's rule, never the web.
"""

from clinician_dashboard.record.changes import Applied
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.images import ImageStore
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.record.writer import RecordWriter

__all__ = ["Applied", "ImageStore", "Record", "RecordReader", "RecordWriter"]
