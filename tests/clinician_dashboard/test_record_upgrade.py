"""A record's version: made from nothing, brought up from every earlier one, refused where newer; on both databases."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from clinician_dashboard.errors import RecordError
from clinician_dashboard.record import RecordReader, RecordWriter, upgrade
from clinician_dashboard.record.tables import RECORD_VERSION, CaseRow, RecordInfo, Table
from clinician_dashboard.record.upgrade import HEAD, MIGRATIONS

# As the first release's own code wrote it: three recorded frames of one case, one that waits and a dead letter.
FIRST = Path(__file__).with_name("record_of_version_1.sql")


def revisions(**attributes):
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def first_record(store, tmp_path):
    """Put the record of the first release into ``store``; where that is no SQLite, through the first revision."""
    lies_in = store.directory / "record.sqlite" if store.engine == "sqlite" else tmp_path / "first.sqlite"
    connection = sqlite3.connect(lies_in)
    connection.executescript(FIRST.read_text())
    connection.close()
    if store.engine == "sqlite":
        return
    source, target = sa.create_engine(f"sqlite:///{lies_in}"), store.record()._make_engine()
    with source.connect() as old, target.begin() as new:
        command.upgrade(revisions(connection=new, derive=False), "0001")
        for table in Table.metadata.sorted_tables:
            if not sa.inspect(old).has_table(table.name):
                continue
            names = [column["name"] for column in sa.inspect(old).get_columns(table.name)]
            then = sa.table(table.name, *(sa.column(name, table.c[name].type) for name in names))
            rows = old.execute(sa.select(then)).mappings().all()
            if rows:
                new.execute(sa.insert(then), [dict(row) for row in rows])
            if rows and "id" in names:
                sequence = sa.func.pg_get_serial_sequence(table.name, "id")
                new.execute(sa.select(sa.func.setval(sequence, len(rows))))
        new.exec_driver_sql("drop table alembic_version")  # the first release knew of no revisions
    target.dispose()
    source.dispose()


def version(store):
    return store.execute("select version from record_info"), store.execute(
        "select version_num from alembic_version"
    )


def test_a_new_record_has_the_tables_that_the_code_knows(store):
    record = store.record()
    record.start()
    with record.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    record.stop()
    assert version(store) == ([(RECORD_VERSION,)], [(HEAD,)])
    assert ScriptDirectory.from_config(revisions()).get_current_head() == HEAD


def test_a_record_of_the_first_release_is_brought_up_to_date(store, make, tmp_path):
    first_record(store, tmp_path)
    record = store.record()
    record.start()
    with record.engine.connect() as connection:
        changes = compare_metadata(MigrationContext.configure(connection), Table.metadata)
    assert [change for change in changes if change[0] != "remove_constraint"] == []
    reader = RecordReader(record)
    case, waiting = reader.worklist().cases
    assert (case.code, case.urgency, case.recorded, case.totals["counted"]) == ("HL-0001", "critical", 3, 3)
    assert waiting.waiting == 1  # as that release counted
    assert [view.row.code for view in reader.rejections()] == ["corrupt_image"]
    assert reader.missing()[0].on_the_way == 1
    make.count = 5
    more = make.frame()
    assert RecordWriter(record).apply([more, make.diagnosis(more)]).newly_recorded == 1
    (case,) = (one for one in reader.worklist().cases if one.code == "HL-0001")
    assert (case.recorded, case.result["counted"]) == (4, 4)
    record.stop()
    assert version(store) == ([(RECORD_VERSION,)], [(HEAD,)])


def test_a_record_from_before_there_were_revisions_is_taken_over(store, make):
    record = store.record()
    record.start()
    frame = make.frame()
    RecordWriter(record).apply([frame, make.diagnosis(frame)])
    (before,) = RecordReader(record).worklist().cases
    record.stop()
    store.execute("drop table alembic_version")
    record.start()
    (after,) = RecordReader(record).worklist().cases
    assert (after.totals, after.revision) == (before.totals, before.revision)
    record.stop()
    assert version(store) == ([(RECORD_VERSION,)], [(HEAD,)])


def test_an_interrupted_migration_leaves_the_record_as_it_was(store, tmp_path, monkeypatch):
    first_record(store, tmp_path)

    def tables():
        engine = store.record()._make_engine()
        with engine.connect() as connection:
            look = sa.inspect(connection)
            found = {name: [c["name"] for c in look.get_columns(name)] for name in look.get_table_names()}
        engine.dispose()
        return found, store.execute("select version from record_info")

    before = tables()

    def dies(_connection):
        raise KeyboardInterrupt

    record = store.record()
    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "_derive", dies)  # the last step, after every change of the schema
        with pytest.raises(KeyboardInterrupt):
            record.start()
    assert tables() == before
    record.start()
    assert len(RecordReader(record).worklist().cases) == 2
    record.stop()


def test_a_record_of_a_newer_release_is_refused_and_left_alone(store):
    record = store.record()
    record.start()
    record.stop()
    store.execute("update record_info set version = 99")
    with pytest.raises(RecordError, match=r"is of version 99, .* use the release that wrote it"):
        record.start()
    assert version(store) == ([(99,)], [(HEAD,)])


def test_a_first_start_that_was_interrupted_is_begun_again_and_a_strangers_tables_are_not_touched(store):
    strange = RecordInfo.__table__, CaseRow.__table__
    engine = store.record()._make_engine()
    Table.metadata.create_all(engine, tables=strange)
    engine.dispose()
    record = store.record()
    if store.engine == "sqlite":
        record.start()
        record.stop()
        return
    with pytest.raises(RecordError, match="belongs to another program"):
        record.start()
    assert store.execute("select count(*) from cases") == [(0,)]
