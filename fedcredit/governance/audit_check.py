"""Recomputes an audit log from its entries, and reads how its database keeps the openings."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.crypto import merkle
from fedcredit.errors import AuthenticationError, InputError
from fedcredit.governance import witness as witnesses
from fedcredit.governance.checkpoint import Checkpoint, open_checkpoint
from fedcredit.governance.checks import Check, Report
from fedcredit.governance.entries import CONSENT_BYTES, Entry, subject_leaves
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import (
    AUDIT_ENTRIES,
    AUDIT_NODES,
    AUDIT_OPENINGS,
    QUESTIONS,
)

__all__ = ["check_log", "pack_opening", "unpack_opening"]

_STEP = "audit log"


def pack_opening(subjects: Sequence[str], consents: Sequence[bytes]) -> str:
    """Return an entry's enterprises and consents as they stand beside its salt."""
    joined = base64.b64encode(b"".join(consents)).decode()
    return json.dumps({"consents": joined, "subjects": list(subjects)}, separators=(",", ":"))


def unpack_opening(text: str) -> tuple[list[str], list[bytes]]:
    """Undo :func:`pack_opening`.

    Raises
    ------
    InputError
        The text is damaged.
    """
    try:
        value = json.loads(text)
        joined, subjects = base64.b64decode(value["consents"], validate=True), value["subjects"]
        consents = [joined[at : at + CONSENT_BYTES] for at in range(0, len(joined), CONSENT_BYTES)]
        if all(isinstance(subject, str) for subject in subjects):
            return list(subjects), consents
    except (ValueError, TypeError, KeyError, binascii.Error):
        pass
    raise InputError("what opens an entry is damaged.", step=_STEP)


def check_log(
    ledger: Ledger, origin: str, keys: Sequence[Ed25519PublicKey], copies: Sequence[str]
) -> Report:
    """Recompute a log from its entries and compare everything that depends on them.

    Parameters
    ----------
    ledger : Ledger
    origin : str
    keys : sequence of Ed25519PublicKey
        Those that may have signed its checkpoints.
    copies : sequence of str
        Its checkpoints as witnesses hold them.

    Returns
    -------
    Report
        Checks ``numbers``, ``entries``, ``tree``, ``openings``, ``questions``, ``checkpoints``,
        ``copies`` (if any are given) and ``others`` (logs that this party witnesses); ``database``
        if the rest could not be read.
    """
    with ledger.reading() as tx:
        return _Checker(tx, origin, keys).run(copies)


class _Checker:
    def __init__(self, tx: sa.Connection, origin: str, keys: Sequence[Ed25519PublicKey]) -> None:
        self.tx, self.origin, self.keys = tx, origin, keys
        self.checks: list[Check] = []
        self.levels: list[list[bytes]] = [[]]
        self.size = 0
        self.wanted: dict[int, tuple[int, bytes]] = {}
        self.shredded: set[int] = set()

    def run(self, copies: Sequence[str]) -> Report:
        try:
            self._entries()
            self._tree()
            self._openings()
            self._questions()
            self._checkpoints()
            if copies:
                self._notes("copies", copies, "the checkpoints that witnesses hold")
            self._others()
        except (TypeError, ValueError, AttributeError):
            self._add("database", "a value is of a type that is never written.", "")
        return Report(tuple(self.checks))

    def _add(self, name: str, problem: str, fine: str) -> None:
        self.checks.append(Check(name, not problem, problem or fine))

    def _entries(self) -> None:
        gap = damaged = ""
        columns = AUDIT_ENTRIES.c
        for row in self.tx.execute(sa.select(AUDIT_ENTRIES).order_by(columns.number)):
            if row.number != self.size and not gap:
                gap = f"entry {self.size} is missing."
            data = row.entry if isinstance(row.entry, bytes) else b""
            self.levels[0].append(merkle.leaf_hash(data))
            self.size += 1
            try:
                entry = Entry.parse(data)
            except InputError:
                damaged = damaged or f"entry {row.number} cannot be read."
                continue
            stands = (entry.number, entry.time, entry.kind, entry.origin)
            if stands != (row.number, row.time, row.kind, self.origin):
                damaged = damaged or f"entry {row.number} does not stand where it was written."
            if entry.subjects:
                self.wanted[row.number] = (entry.subjects, entry.root)
            elif entry.kind == "shred":
                self.shredded.update(set(entry.facts.get("entries", ())))
        count = f"{self.size} entries"
        self._add("numbers", gap, f"{count}, numbered without a gap.")
        self._add("entries", damaged, "every entry is in canonical form and in its place.")

    def _tree(self) -> None:
        while len(self.levels[-1]) > 1:
            low = self.levels[-1]
            pairs = zip(low[::2], low[1::2], strict=False)
            self.levels.append([merkle.node_hash(a, b) for a, b in pairs])
        problem, columns = "", AUDIT_NODES.c
        for level, computed in enumerate(self.levels):
            rows = self.tx.execute(
                sa.select(columns.position, columns.hash)
                .where(columns.level == level)
                .order_by(columns.position)
            ).fetchall()
            if [tuple(row) for row in rows] != list(enumerate(computed)):
                problem = problem or self._first_difference(level, rows)
        beyond = sa.select(sa.func.count()).where(columns.level >= len(self.levels))
        if self.tx.execute(beyond).scalar() and not problem:
            problem = "the tree has parts beyond the entries."
        self._add("tree", problem, "the stored tree is the one of the entries.")

    def _first_difference(self, level: int, rows: Sequence[Any]) -> str:
        stored = {row.position: row.hash for row in rows}
        computed = self.levels[level]
        for at, value in enumerate(computed):
            if stored.get(at) != value:
                first, last = at << level, (at + 1 << level) - 1
                where = f"entry {first}" if first == last else f"entries {first} to {last}"
                return f"{where} are not what the tree was made of."
        return "the tree has parts beyond the entries."

    def _openings(self) -> None:
        problem, opened = "", set()
        for row in self.tx.execute(sa.select(AUDIT_OPENINGS).order_by(AUDIT_OPENINGS.c.number)):
            opened.add(row.number)
            try:
                leaves = subject_leaves(bytes(row.salt), *unpack_opening(row.subjects))
                fits = self.wanted.get(row.number) == (len(leaves), merkle.root_of(leaves))
            except (InputError, TypeError):
                fits = False
            if not fits:
                problem = problem or f"what opens entry {row.number} does not belong to it."
        lost = sorted(set(self.wanted) - opened - self.shredded)
        if lost and not problem:
            problem = f"what opens entry {lost[0]} is gone without an entry that says so."
        gone = len(set(self.wanted) & self.shredded)
        self._add("openings", problem, f"{len(opened)} entries can be opened, {gone} never again.")

    def _questions(self) -> None:
        last = self.tx.execute(sa.select(sa.func.max(QUESTIONS.c.entry))).scalar()
        missing = last is not None and last >= self.size
        problem = f"a question names entry {last}, which does not exist." if missing else ""
        self._add("questions", problem, "every question has its entry.")

    def _checkpoints(self) -> None:
        kept = witnesses.seen(self.tx, self.origin)
        for checkpoint in kept:
            try:
                same = Checkpoint.parse(checkpoint.note) == checkpoint
            except AuthenticationError:
                same = False
            if not same:
                text = f"the checkpoint of size {checkpoint.size} is not the one of its note."
                self._add("checkpoints", text, "")
                return
        notes = [checkpoint.note for checkpoint in kept]
        self._notes("checkpoints", notes, "the party's own checkpoints")

    def _notes(self, name: str, notes: Sequence[str], what: str) -> None:
        problem, largest = "", 0
        for note in notes:
            found = self._problem_of(note)
            problem = problem or found
            if not found:
                largest = max(largest, Checkpoint.parse(note).size)
        open_end = self.size - largest
        fine = f"{what} ({len(notes)}) fit"
        fine += f"; {open_end} entries came after the last." if open_end else "."
        self._add(name, problem, fine)

    def _problem_of(self, note: str) -> str:
        for key in self.keys:
            try:
                checkpoint = open_checkpoint(note, key, self.origin)
                break
            except AuthenticationError as error:
                reason = error.reason
        else:
            return reason
        if checkpoint.size > self.size:
            gone = checkpoint.size - self.size
            return f"{gone} entries are gone: a checkpoint counts {checkpoint.size}."
        root = merkle.root_at(checkpoint.size, lambda level, at: self.levels[level][at])
        if root != checkpoint.root:
            return f"the first {checkpoint.size} entries are not those of their checkpoint."
        return ""

    def _others(self) -> None:
        forked = sorted({note.origin for note in witnesses.refused(self.tx)})
        problem = f"contradicting checkpoints were kept of {', '.join(forked)}." if forked else ""
        self._add("others", problem, "no witnessed log has contradicted itself.")
