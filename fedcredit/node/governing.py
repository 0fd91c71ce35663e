"""A party's gate and log, as its configuration says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fedcredit.errors import ConfigError
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.gate import Gate
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.witnessing import WitnessedLog
from fedcredit.node.config import NodeConfig

__all__ = [
    "data_date",
    "open_gate",
    "open_ledger",
    "open_log",
    "using_ledger",
    "using_log",
    "witnessed_log",
]

_SQLITE = "sqlite:///"


def open_ledger(config: NodeConfig, *, must_exist: bool = False) -> Ledger:
    """Open a governance database; every process and command of a party does it here.

    Parameters
    ----------
    config : NodeConfig
    must_exist : bool
        Whether a missing file is refused instead of made: who only reads would take an empty
        database for the party's.

    Raises
    ------
    ConfigError
        The URL cannot be used, or there is no database.
    StorageError
        The database cannot be opened.
    """
    path = config.database.removeprefix(_SQLITE)
    if must_exist and path != config.database and not Path(path).is_file():
        raise ConfigError(
            "there is no governance database.",
            party=config.party,
            step="open database",
            fix="start the party once, or correct [storage] or [governance] in its file",
        )
    config.storage.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Ledger(config.database, party=config.party)


@contextlib.contextmanager
def using_ledger(config: NodeConfig, *, must_exist: bool = False) -> Iterator[Ledger]:
    """Open a governance database for a while; see :func:`open_ledger`."""
    ledger = open_ledger(config, must_exist=must_exist)
    try:
        yield ledger
    finally:
        ledger.close()


def open_log(config: NodeConfig, ledger: Ledger) -> AuditLog:
    """Return the audit log in a party's governance database (ConfigError)."""
    return AuditLog(ledger, config.load_signing().identity, config.party)


@contextlib.contextmanager
def using_log(config: NodeConfig) -> Iterator[AuditLog]:
    """Open a party's audit log for a while; its database must exist (see :func:`open_ledger`)."""
    with using_ledger(config, must_exist=True) as ledger:
        yield open_log(config, ledger)


@contextlib.contextmanager
def witnessed_log(config: NodeConfig) -> Iterator[WitnessedLog]:
    """Open a party's audit log to have it witnessed; a new party has an empty one."""
    with using_ledger(config) as ledger:
        identity = config.load_signing().identity
        yield WitnessedLog(open_log(config, ledger), identity, time.time)


def open_gate(config: NodeConfig) -> Gate:
    """Make the gate of a provider or the platform.

    Raises
    ------
    ConfigError
        A part of the configuration cannot be used.
    StorageError
        The database cannot be opened.
    """
    ledger = open_ledger(config)
    return Gate(
        ledger,
        config.catalog(),
        open_log(config, ledger),
        party=config.party,
        clock=time.time,
        budgets=config.budgets(),
    )


def data_date(config: NodeConfig) -> str:
    """Return the date of a party's data, ISO 8601: as configured, else of its file; or nothing."""
    if config.service.as_of is not None:
        return config.service.as_of.isoformat()
    path = getattr(config.data, "path", None)
    if path is None or not path.exists():
        return ""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
