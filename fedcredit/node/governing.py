"""A party's gate and log, as its configuration says."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from fedcredit.governance.audit import AuditLog
from fedcredit.governance.gate import Gate
from fedcredit.governance.ledger import Ledger
from fedcredit.node.config import NodeConfig

__all__ = ["data_date", "open_gate", "open_ledger", "open_log"]


def open_ledger(config: NodeConfig) -> Ledger:
    """Open a party's governance database (StorageError, ConfigError)."""
    config.storage.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Ledger(config.database, party=config.party)


def open_log(config: NodeConfig, ledger: Ledger | None = None) -> AuditLog:
    """Open a party's audit log (StorageError, ConfigError)."""
    identity = config.load_signing().identity
    return AuditLog(ledger if ledger is not None else open_ledger(config), identity)


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
