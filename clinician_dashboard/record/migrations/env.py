"""How alembic runs the revisions: on the connection it is given, within that connection's transaction."""

from alembic import context

from clinician_dashboard.record.schema import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,  # on SQLite too: the caller has begun the transaction itself
)
with context.begin_transaction():
    context.run_migrations()
