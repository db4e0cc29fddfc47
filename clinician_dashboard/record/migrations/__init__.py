"""The record's migrations, run by `clinician_dashboard.record.upgrade` when a record is opened.

Each revision is named by the record version that it leads to (``0002``), stands alone (it imports no table of today's) and
runs on SQLite and on PostgreSQL, in one transaction with the others. What can be computed from other rows is not migrated
by hand: a revision asks for it with ``context.config.attributes["derive"] = True``, and today's code computes it anew once
the schema is today's. A new revision: a file beside the others, `RECORD_VERSION` in ``tables.py``, and the test that
compares the migrated schema with the tables passes.
"""
