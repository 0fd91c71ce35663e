"""What Alembic runs: the migrations on the connection that it was given."""

from __future__ import annotations

from alembic import context

from fedcredit.governance.migrations import VERSION_TABLE
from fedcredit.governance.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    # SQLite can roll back its DDL as well, once the driver leaves transactions alone.
    transactional_ddl=True,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
