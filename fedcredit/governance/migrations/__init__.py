"""Revisions of the governance database, oldest first, and how to bring a database to the newest.

A change of :mod:`fedcredit.governance.schema` comes with a file in ``versions`` and its name at the
end of :data:`REVISIONS`. Alembic is imported only when a database has to be changed.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

__all__ = ["HEAD", "REVISIONS", "VERSION_TABLE", "stored_revision", "upgrade"]

#: Every revision that this release can read, oldest first.
REVISIONS = ("0001",)
HEAD = REVISIONS[-1]
#: Not Alembic's default name: the database may be shared with another application that uses it.
VERSION_TABLE = "fedcredit_version"

_DIRECTORY = Path(__file__).parent


def stored_revision(connection: sa.Connection) -> str | None:
    """Return the revision that a database is at, or None for a new one."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    column = sa.column("version_num", sa.String)
    found: str | None = connection.scalar(sa.select(column).select_from(sa.table(VERSION_TABLE)))
    return found


def upgrade(connection: sa.Connection) -> None:
    """Bring a database to :data:`HEAD` in the transaction that ``connection`` is in."""
    from alembic.command import upgrade as run
    from alembic.config import Config

    config = Config()
    # "%" starts an interpolation in Alembic's configuration.
    config.set_main_option("script_location", str(_DIRECTORY).replace("%", "%%"))
    config.attributes["connection"] = connection
    run(config, HEAD)
