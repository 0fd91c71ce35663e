"""Reads a party's audit log and proves what stands in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import sqlalchemy as sa

from fedcredit.crypto import merkle
from fedcredit.errors import InputError, StorageError
from fedcredit.governance.audit_check import unpack_opening
from fedcredit.governance.checkpoint import check_origin
from fedcredit.governance.entries import Disclosure, Entry, disclose
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import AUDIT_ENTRIES, AUDIT_NODES, AUDIT_OPENINGS

__all__ = ["AuditReader", "InclusionProof", "default_origin"]

_STEP = "audit log"
_BLOCK = 500
_E, _N, _O = AUDIT_ENTRIES.c, AUDIT_NODES.c, AUDIT_OPENINGS.c
_SIZE = sa.select(sa.func.max(_E.number))
_READ = sa.select(_E.number, _E.entry)
_NODE = sa.select(_N.hash).where(
    _N.level == sa.bindparam("of_level"), _N.position == sa.bindparam("at")
)


def default_origin(party: str) -> str:
    """Return how a party's audit log is named in its checkpoints."""
    return f"{party}/fedcredit-audit"


@dataclass(frozen=True)
class InclusionProof:
    """That an entry stands in a log of some size.

    Attributes
    ----------
    number, size : int
    root : bytes
        Of the log at this size.
    hashes : tuple of bytes
        The proof of RFC 9162, 2.1.3.
    """

    number: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]

    def holds(self, entry: bytes) -> bool:
        """Return whether the proof shows that these bytes are the entry."""
        leaf = merkle.leaf_hash(entry)
        return merkle.verify_inclusion(self.number, self.size, leaf, self.hashes, self.root)


class AuditReader:
    """The reading half of an audit log.

    Parameters
    ----------
    ledger : Ledger
    party : str
        Named in errors.
    origin : str, optional
        Names the log; :func:`default_origin` by default.

    Raises
    ------
    InputError
        The origin cannot name a log.
    """

    def __init__(self, ledger: Ledger, party: str, origin: str | None = None) -> None:
        self.ledger = ledger
        self.party = party
        self.origin = check_origin(origin or default_origin(party))

    def size(self, tx: sa.Connection) -> int:
        """Return the number of entries."""
        last = tx.execute(_SIZE).scalar()
        return 0 if last is None else int(last) + 1

    def entry(self, tx: sa.Connection, number: int) -> Entry:
        """Return an entry.

        Raises
        ------
        InputError
            There is none of this number.
        """
        data = tx.execute(sa.select(_E.entry).where(_E.number == number)).scalar()
        if data is None:
            raise InputError(
                f"the audit log has no entry {number}.",
                party=self.party,
                step=_STEP,
                fix="`fedcredit audit log` lists the entries",
            )
        return Entry.parse(bytes(data))

    def entries(
        self, start: int = 0, stop: int | None = None, *, newest_first: bool = False
    ) -> Iterator[Entry]:
        """Yield entries ``start`` up to ``stop`` in blocks; no transaction stays open."""
        with self.ledger.reading() as tx:
            size = self.size(tx)
        low, high = max(start, 0), size if stop is None else min(stop, size)
        order = _E.number.desc() if newest_first else _E.number
        while low < high:
            a, b = (
                (max(low, high - _BLOCK), high) if newest_first else (low, min(low + _BLOCK, high))
            )
            with self.ledger.reading() as tx:
                rows = tx.execute(
                    _READ.where(_E.number >= a, _E.number < b).order_by(order)
                ).fetchall()
            yield from (Entry.parse(bytes(row.entry)) for row in rows)
            low, high = (low, a) if newest_first else (b, high)

    def find(self, request: str) -> tuple[int, ...]:
        """Return the numbers of the entries of a request (the hex of its digest)."""
        return tuple(
            entry.number for entry in self.entries() if entry.facts.get("request") == request
        )

    def consents_of(self, tx: sa.Connection, request: str) -> list[bytes]:
        """Return the hashes of the consents in the last admitted entry of a request, or none.

        Parameters
        ----------
        tx : sqlalchemy.Connection
            In which the log may be read.
        request : str
            The hex of its digest.
        """
        for entry in self.entries(newest_first=True):
            if entry.facts.get("request") == request and entry.kind in ("score", "verify"):
                row = tx.execute(sa.select(_O.subjects).where(_O.number == entry.number)).first()
                return [] if row is None else unpack_opening(row.subjects)[1]
        return []

    def disclosure(self, tx: sa.Connection, number: int, subject: str) -> Disclosure:
        """Return what opens an entry for one of its enterprises.

        Raises
        ------
        InputError
            The entry is not about it, or its salt has been deleted.
        """
        row = tx.execute(sa.select(_O.salt, _O.subjects).where(_O.number == number)).first()
        if row is None:
            raise InputError(
                f"entry {number} names no enterprise, or its salt has been deleted.",
                party=self.party,
                step=_STEP,
            )
        subjects, consents = unpack_opening(row.subjects)
        return disclose(bytes(row.salt), subjects, consents, subject)

    def prove_inclusion(self, number: int, size: int | None = None) -> InclusionProof:
        """Prove that an entry stands in the log of ``size`` entries (all, by default).

        Raises
        ------
        InputError
            The log of this size has no such entry.
        """
        with self.ledger.reading() as tx:
            return self._prove(tx, number, self._bounded(tx, size, number + 1))

    def prove_consistency(self, first: int, second: int | None = None) -> tuple[bytes, ...]:
        """Prove that the log of ``second`` entries continues the one of ``first``.

        Raises
        ------
        InputError
            The log has fewer entries.
        """
        with self.ledger.reading() as tx:
            return self._consistency(tx, first, self._bounded(tx, second, first))

    def _prove(self, tx: sa.Connection, number: int, size: int) -> InclusionProof:
        hashes = merkle.inclusion_proof(number, size, lambda *at: self._node(tx, *at))
        return InclusionProof(number, size, self._root(tx, size), tuple(hashes))

    def _consistency(self, tx: sa.Connection, first: int, second: int) -> tuple[bytes, ...]:
        return tuple(merkle.consistency_proof(first, second, lambda *at: self._node(tx, *at)))

    def _bounded(self, tx: sa.Connection, size: int | None, least: int) -> int:
        present = self.size(tx)
        size = present if size is None else size
        if not max(least, 0) <= size <= present:
            raise InputError(
                f"the audit log has {present} entries; that part of it cannot be proven.",
                party=self.party,
                step=_STEP,
                fix="name entries and sizes that the log has",
            )
        return size

    def _root(self, tx: sa.Connection, size: int) -> bytes:
        return merkle.root_at(size, lambda *at: self._node(tx, *at))

    def _node(self, tx: sa.Connection, level: int, position: int) -> bytes:
        found = tx.execute(_NODE, {"of_level": level, "at": position}).scalar()
        if not isinstance(found, bytes) or len(found) != merkle.HASH_BYTES:
            self._damaged("lacks a part of its tree")
        return found

    def _damaged(self, what: str) -> NoReturn:
        raise StorageError(
            f"the audit log {what}.",
            party=self.party,
            step=_STEP,
            fix="answer nothing more, keep the database as it is and run `fedcredit audit verify`",
        )
