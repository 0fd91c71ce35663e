"""Databases of both kinds, new for every test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcredit.governance.ledger import Ledger
from tests.support.databases import new_postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new, empty database: a SQLite file, then PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'governance.db'}"
    else:
        with new_postgres() as url:
            yield url


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """An open ledger on :func:`database_url`."""
    opened = Ledger(database_url, party="tax")
    yield opened
    opened.close()
