"""Audit logs to test on, and what goes into them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fedcredit.governance.audit import AuditLog
from fedcredit.governance.ledger import Ledger
from fedcredit.wire import Identity

NOW = 1_764_000_000.0
TAX = Identity.generate("tax")
FACTS = {"institution": "bank", "target": "sme-card@1", "outcome": "admitted", "fields": ["paid"]}


def uscc(i: int) -> str:
    return f"91350211M{i:09d}"


def consents(n: int) -> list[bytes]:
    return [bytes([i % 256]) * 32 for i in range(n)]


@contextlib.contextmanager
def new_log(directory: Path) -> Iterator[AuditLog]:
    """Open an empty log of the tax bureau in a file of this directory."""
    opened = Ledger(f"sqlite:///{directory}/governance.db", party="tax")
    try:
        yield AuditLog(opened, TAX)
    finally:
        opened.close()


def fill(log: AuditLog, n: int, *, start: int = 0) -> None:
    with log.ledger.transaction() as tx:
        for i in range(start, start + n):
            who = [uscc(i), uscc(i + 1)][: i % 3]
            number = log.append(
                tx, "score", {**FACTS, "request": f"{i:064x}"}, who, consents(len(who)), now=NOW + i
            )
            assert number == i
