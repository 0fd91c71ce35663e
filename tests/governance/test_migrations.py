"""The migrations make exactly the tables of the schema, and a newer database is refused."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fedcredit.errors import StorageError
from fedcredit.governance import migrations
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import METADATA


def differences(ledger: Ledger, metadata: sa.MetaData = METADATA) -> list[object]:
    with ledger.reading() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_object": lambda _o, name, *_: name != migrations.VERSION_TABLE,
            },
        )
        return compare_metadata(context, metadata)


def test_migrations_and_schema_agree(ledger: Ledger):
    assert differences(ledger) == []


def test_a_column_without_migration_is_seen(ledger: Ledger):
    changed = sa.MetaData(naming_convention=METADATA.naming_convention)
    for table in METADATA.tables.values():
        table.to_metadata(changed)
    changed.tables["alarms"].append_column(sa.Column("more", sa.Text))
    found = differences(ledger, changed)
    assert [(change[0], change[2], change[3].name) for change in found] == [
        ("add_column", "alarms", "more")
    ]


def test_tables_without_row_numbers_are_so_after_migration(tmp_path: Path):
    def texts(url: str) -> dict[str, str]:
        ledger = Ledger(url)
        with ledger.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE type='table'"
            ).all()
        ledger.close()
        return dict(rows)

    migrated, made = texts(f"sqlite:///{tmp_path / 'g.db'}"), texts("sqlite://")
    for name in METADATA.tables:
        assert ("WITHOUT ROWID" in migrated[name]) == ("WITHOUT ROWID" in made[name]), name
    assert "WITHOUT ROWID" in migrated["subject_counters"]


def test_the_known_revisions_are_those_of_the_files():
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    walked = [revision.revision for revision in script.walk_revisions()][::-1]
    assert tuple(walked) == migrations.REVISIONS
    assert script.get_heads() == [migrations.HEAD]
    files = resources.files(migrations) / "versions"
    assert any(entry.name == "schema_0001.py" for entry in files.iterdir())


def test_the_revision_is_stored(ledger: Ledger):
    with ledger.reading() as connection:
        assert migrations.stored_revision(connection) == migrations.HEAD


def test_a_newer_database_is_refused_and_left_alone(database_url: str):
    ledger = Ledger(database_url)
    with ledger.transaction() as tx:
        tx.exec_driver_sql(f"UPDATE {migrations.VERSION_TABLE} SET version_num='0099'")
    ledger.close()
    with pytest.raises(StorageError, match=r"newer release \(revision '0099'") as caught:
        Ledger(database_url, party="tax")
    assert "update fedcredit" in str(caught.value)
    with pytest.raises(StorageError):
        Ledger(database_url)


def test_an_interrupted_migration_leaves_nothing(database_url: str, monkeypatch):
    def fail(tx: sa.Connection) -> None:
        migrations.upgrade(tx)
        raise RuntimeError("interrupted")

    monkeypatch.setattr("fedcredit.governance.ledger.upgrade", fail)
    with pytest.raises(RuntimeError):
        Ledger(database_url)
    monkeypatch.undo()
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()
    Ledger(database_url).close()
