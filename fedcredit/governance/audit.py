"""A party's audit log: append-only, fail-closed, provable, without an enterprise in clear.

An entry is written in the transaction of the answer that it records, so that no answer stands
without its entry. Entries are the leaves of a Merkle tree (RFC 9162); see
:mod:`fedcredit.governance.entries` for what stands in them and
:mod:`fedcredit.governance.checkpoint` for the signatures that fix their history. Whoever can write
to the database can still change what came after the last checkpoint that another party holds, and
nothing before it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.crypto import merkle
from fedcredit.errors import InputError
from fedcredit.governance import witness as witnesses
from fedcredit.governance.audit_check import check_log, pack_opening
from fedcredit.governance.audit_read import AuditReader
from fedcredit.governance.bulk import insertion
from fedcredit.governance.checkpoint import (
    Checkpoint,
    is_signed,
    open_checkpoint,
    sign_checkpoint,
)
from fedcredit.governance.checks import Report
from fedcredit.governance.entries import (
    SALT_BYTES,
    Entry,
    subject_leaves,
)
from fedcredit.governance.evidence import Document, make_bundle
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import AUDIT_ENTRIES, AUDIT_NODES, AUDIT_OPENINGS
from fedcredit.wire import Identity

__all__ = ["AuditLog"]

_STEP = "audit log"
#: Witnesses' copies from before and from after the entry that go into its evidence.
_COPIES = 3
_MAX_KIND = 32
_TABLES = (AUDIT_ENTRIES, AUDIT_NODES, AUDIT_OPENINGS)
_ADD_ENTRY, _ADD_NODE, _ADD_OPENING = (insertion(t) for t in _TABLES)


class AuditLog(AuditReader):
    """One party's audit log; several threads and processes may append at once.

    Parameters
    ----------
    ledger : Ledger
    identity : Identity
        Signs the checkpoints.
    party : str, optional
        Named in errors; the identity's name by default.
    origin : str, optional
        Names the log; :func:`default_origin` by default.

    Raises
    ------
    InputError
        The origin cannot name a log.
    """

    def __init__(
        self,
        ledger: Ledger,
        identity: Identity,
        party: str | None = None,
        origin: str | None = None,
    ) -> None:
        super().__init__(ledger, party or identity.name, origin)
        self._identity = identity

    def __repr__(self) -> str:
        return f"AuditLog({self.origin!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an audit log is never pickled")

    def append(
        self,
        tx: sa.Connection,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        subjects: Sequence[str] = (),
        consents: Sequence[bytes] = (),
        *,
        now: float,
    ) -> int:
        """Add an entry within the caller's transaction.

        Parameters
        ----------
        tx : sqlalchemy.Connection
            Of ``ledger.transaction()``; the entry stands when that commits.
        kind : str
            A short word, such as ``"score"`` or ``"refusal"``.
        fields : mapping, optional
            What is logged in clear: text, integers, booleans, lists, mappings; no enterprise.
        subjects : sequence of str
            The enterprises it is about; they enter as salted commitments.
        consents : sequence of bytes
            Of each of them the SHA-256 of its consent token, 32 bytes; or nothing.
        now : float
            Seconds since the epoch.

        Returns
        -------
        int
            The entry's number.

        Raises
        ------
        InputError
            The fields have no canonical form or name one of the enterprises.
        StorageError
            From the transaction: nothing was logged.
        """
        if not 1 <= len(kind) <= _MAX_KIND:
            raise InputError(f"an entry's kind has 1 to {_MAX_KIND} characters.", step=_STEP)
        salt, leaves = b"", []
        if subjects:
            salt = secrets.token_bytes(SALT_BYTES)
            leaves = subject_leaves(salt, subjects, consents)
        number = self.size(tx)
        entry = Entry.make(number, kind, self.origin, fields or {}, now=now, leaves=leaves)
        text = entry.data.decode()
        if any(subject in text for subject in subjects):
            raise InputError(
                "the fields of an entry name an enterprise.",
                party=self.party,
                step=_STEP,
                fix="pass enterprises as subjects only",
            )
        _ADD_ENTRY(tx, number=number, time=entry.time, kind=kind, entry=entry.data)
        made = merkle.Frontier(number, self._completed(tx, number)).append(
            merkle.leaf_hash(entry.data)
        )
        _ADD_NODE.many(
            tx, [{"level": level, "position": at, "hash": value} for level, at, value in made]
        )
        if subjects:
            opening = pack_opening(subjects, consents)
            _ADD_OPENING(tx, number=number, salt=salt, subjects=opening)
        return number

    def _completed(self, tx: sa.Connection, size: int) -> list[bytes]:
        # Appending folds in the subtrees of the trailing one bits; the others only hold a place.
        places = list(merkle.complete_subtrees(size))
        needed = (~size & size + 1).bit_length() - 1
        hashes = [b""] * len(places)
        for i in range(len(places) - needed, len(places)):
            hashes[i] = self._node(tx, *places[i])
        return hashes

    def shred(self, numbers: Sequence[int], now: float) -> int:
        """Delete the salts of entries for good, which makes them anonymous; log that.

        On PostgreSQL the bytes leave the disk with the next ``VACUUM``; backups are the operator's.

        Parameters
        ----------
        numbers : sequence of int
        now : float
            Seconds since the epoch.

        Returns
        -------
        int
            The number of the entry that records it.
        """
        with self.ledger.transaction() as tx:
            engine = tx.engine
            if tx.dialect.name == "sqlite":
                tx.exec_driver_sql("PRAGMA secure_delete=ON")
            tx.execute(sa.delete(AUDIT_OPENINGS).where(AUDIT_OPENINGS.c.number.in_(list(numbers))))
            entry = self.append(tx, "shred", {"entries": sorted(set(numbers))}, now=now)
        if engine.dialect.name == "sqlite":
            # The write-ahead log holds former states of the pages until it is emptied.
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return entry

    def checkpoint(self, now: float, tx: sa.Connection | None = None) -> Checkpoint:
        """Sign the log as it is now, and keep the checkpoint.

        Parameters
        ----------
        now : float
            Seconds since the epoch.
        tx : sqlalchemy.Connection, optional
            An open transaction to do it in.

        Raises
        ------
        StorageError
            The log no longer continues its last checkpoint: nothing is signed.
        """
        if tx is None:
            with self.ledger.transaction() as own:
                return self.checkpoint(now, own)
        size = self.size(tx)
        last = witnesses.latest(tx, self.origin)
        root = self._root(tx, size)
        if last is not None:
            if last.size > size or self._root(tx, last.size) != last.root:
                self._damaged("does not continue its last checkpoint")
            # After a renewal of the key the same state is signed again.
            if last.size == size and is_signed(last.note, self.origin, self._identity.public_key):
                return last
        return witnesses.store(tx, sign_checkpoint(self.origin, size, root, self._identity), now)

    def _telling(self, tx: sa.Connection, number: int, size: int) -> list[Checkpoint]:
        # The first that witnesses cosigned after the entry date it best; the last before it show
        # that the log was witnessed at all.
        copies = [
            copy
            for copy in witnesses.seen(tx, self.origin)
            if 0 < copy.size < size and len(copy.signers) > 1
        ]
        after = [copy for copy in copies if copy.size > number]
        return [copy for copy in copies if copy.size <= number][-_COPIES:] + after[:_COPIES]

    def witness(
        self,
        note: str,
        key: Ed25519PublicKey,
        now: float,
        *,
        origin: str | None = None,
        proof: witnesses.ConsistencyProof | None = None,
    ) -> Checkpoint:
        """Check, cosign and keep another party's checkpoint.

        See :func:`fedcredit.governance.witness.witness`.
        """
        return witnesses.witness(
            self.ledger, note, key, now, origin=origin, proof=proof, identity=self._identity
        )

    def accept_copy(self, note: str, now: float) -> Checkpoint:
        """Keep a witness's copy of an own checkpoint, for evidence.

        Raises
        ------
        AuthenticationError
            It is not one of this log's.
        """
        copy = open_checkpoint(note, self._identity.public_key, self.origin)
        with self.ledger.transaction() as tx:
            return witnesses.store(tx, copy, now)

    def verify(
        self, copies: Sequence[str] = (), *, former_keys: Sequence[Ed25519PublicKey] = ()
    ) -> Report:
        """Recompute the whole log from its entries and compare.

        Parameters
        ----------
        copies : sequence of str
            This log's checkpoints as witnesses hold them: they reveal what the party's own
            checkpoints cannot, if someone deleted those as well.
        former_keys : sequence of Ed25519PublicKey
            Keys that signed checkpoints before the present one.
        """
        keys = [self._identity.public_key, *former_keys]
        return check_log(self.ledger, self.origin, keys, copies)

    def export(
        self,
        number: int | None = None,
        *,
        request: str | None = None,
        disclose: str | None = None,
        now: float,
        documents: Sequence[Document] = (),
        certificates: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the evidence of one entry, for a notary, an arbitrator or a court.

        Parameters
        ----------
        number : int, optional
            The entry; or
        request : str, optional
            the hex digest of the request, whose last entry is taken.
        disclose : str, optional
            One enterprise to disclose.
        now : float
            Seconds since the epoch.
        documents : sequence of Document
        certificates : mapping of party to PEM, optional
            Of this party and of witnesses.

        Returns
        -------
        dict
            See :mod:`fedcredit.governance.evidence`.

        Raises
        ------
        InputError
            No such entry, request or enterprise.
        """
        if number is None:
            found = self.find(request or "")
            if not found:
                raise InputError(
                    "the audit log has no entry of this request.", party=self.party, step=_STEP
                )
            number = found[-1]
        with self.ledger.transaction() as tx:
            entry = self.entry(tx, number)
            head = self.checkpoint(now, tx)
            proof = self._prove(tx, number, head.size)
            opening = None if disclose is None else self.disclosure(tx, number, disclose)
            copies = [
                (copy, self._consistency(tx, copy.size, head.size))
                for copy in self._telling(tx, number, head.size)
            ]
        return make_bundle(
            self.party,
            entry,
            head,
            proof.hashes,
            copies=copies,
            disclosure=opening,
            documents=documents,
            certificates=certificates or {},
            now=now,
        )
