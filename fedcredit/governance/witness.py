"""Keeps checkpoints, the own ones and those of other parties, and refuses a log that forks.

The checkpoints of a log stand in the database under its origin. A note that contradicts them is
kept as well, under ``<origin>#refused``: with the one it contradicts it proves, by the log's own
signatures, that the log has shown two histories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import AuthenticationError
from fedcredit.governance.checkpoint import (
    Checkpoint,
    check_origin,
    cosign,
    merge_signatures,
    only_signers,
    open_checkpoint,
    same_history,
    verify_cosignature,
)
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import CHECKPOINTS
from fedcredit.wire import Identity

__all__ = [
    "ConsistencyProof",
    "find",
    "latest",
    "refused",
    "seen",
    "store",
    "witness",
    "witness_present",
]

#: The proof between two sizes, or what fetches it from the party: ``ask(first, second)``.
ConsistencyProof = Sequence[bytes] | Callable[[int, int], Sequence[bytes]]

_REFUSED = "#refused"
_STEP = "witness a checkpoint"
_T = CHECKPOINTS.c
_LATEST = (
    sa.select(_T.size, _T.root, _T.note)
    .where(_T.origin == sa.bindparam("log"))
    .order_by(_T.size.desc())
    .limit(1)
)
_FIND = (
    sa.select(_T.root, _T.note)
    .where(_T.origin == sa.bindparam("log"), _T.size == sa.bindparam("at"))
    .limit(1)
)


def seen(tx: sa.Connection, origin: str) -> list[Checkpoint]:
    """Return the checkpoints kept of a log, the smallest first."""
    rows = tx.execute(
        sa.select(_T.origin, _T.size, _T.root, _T.note)
        .where(_T.origin == origin)
        .order_by(_T.size, _T.time)
    )
    return [Checkpoint(row.origin, row.size, bytes(row.root), row.note) for row in rows]


def refused(tx: sa.Connection) -> list[Checkpoint]:
    """Return the notes of all logs that contradict others that are kept here."""
    rows = tx.execute(
        sa.select(_T.origin, _T.size, _T.root, _T.note)
        .where(_T.origin.endswith(_REFUSED, autoescape=True))
        .order_by(_T.origin, _T.size, _T.time)
    )
    return [
        Checkpoint(row.origin.removesuffix(_REFUSED), row.size, bytes(row.root), row.note)
        for row in rows
    ]


def latest(tx: sa.Connection, origin: str) -> Checkpoint | None:
    """Return the largest checkpoint kept of a log."""
    row = tx.execute(_LATEST, {"log": origin}).first()
    return None if row is None else Checkpoint(origin, row.size, bytes(row.root), row.note)


def find(tx: sa.Connection, origin: str, size: int) -> Checkpoint | None:
    """Return the checkpoint kept of a log at a size."""
    row = tx.execute(_FIND, {"log": origin, "at": size}).first()
    return None if row is None else Checkpoint(origin, size, bytes(row.root), row.note)


def store(tx: sa.Connection, checkpoint: Checkpoint, now: float, *, where: str = "") -> Checkpoint:
    """Keep a checkpoint; one that is kept already gains the signatures it lacks.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        An open transaction.
    checkpoint : Checkpoint
    now : float
        Seconds since the epoch.
    where : str
        Instead of its origin.

    Returns
    -------
    Checkpoint
        As it is kept.
    """
    origin = where or checkpoint.origin
    key = (_T.origin == origin) & (_T.size == checkpoint.size) & (_T.root == checkpoint.root)
    note = tx.execute(sa.select(_T.note).where(key)).scalar()
    if note is None:
        values = {"size": checkpoint.size, "root": checkpoint.root, "note": checkpoint.note}
        tx.execute(sa.insert(CHECKPOINTS).values(origin=origin, time=now, **values))
        return checkpoint
    merged = merge_signatures(note, checkpoint.note)
    if merged != note:
        tx.execute(sa.update(CHECKPOINTS).where(key).values(note=merged))
    return Checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root, merged)


def witness(
    ledger: Ledger,
    note: str,
    key: Ed25519PublicKey,
    now: float,
    *,
    origin: str | None = None,
    proof: ConsistencyProof | None = None,
    identity: Identity | None = None,
) -> Checkpoint:
    """Check another party's checkpoint against everything seen of its log, and keep it.

    Parameters
    ----------
    ledger : Ledger
    note : str
    key : Ed25519PublicKey
        Of the party that signed.
    now : float
        Seconds since the epoch.
    origin : str, optional
        The log that it must be of.
    proof : sequence of bytes or callable, optional
        Needed once a smaller checkpoint of the log is known.
    identity : Identity, optional
        The witness; without it no cosignature is added.

    Returns
    -------
    Checkpoint
        As it is kept here, with the cosignature.

    Raises
    ------
    AuthenticationError
        The signature does not check, the checkpoint is older than one seen before, no proof was
        given, or the log has forked; the notes of a fork are kept.
    """
    new = open_checkpoint(note, key, origin)
    while True:
        with ledger.reading() as tx:
            known, same = latest(tx, new.origin), find(tx, new.origin, new.size)
        # The party is asked outside the transaction: it may take its time.
        fork = _fork(known, same, new, proof, ledger.party)
        found = _keep(ledger, new, known, same, fork, now, identity)
        if found is not None:  # else another process witnessed one in the meantime
            return found


def witness_present(
    ledger: Ledger,
    note: str,
    key: Ed25519PublicKey,
    now: float,
    *,
    origin: str,
    since: int,
    proof: Sequence[bytes],
    identity: Identity,
) -> Checkpoint | None:
    """Check what a party says is the present state of its log; see :func:`witness`.

    A log that has become smaller is refused like one that forks, and its note is kept.

    Parameters
    ----------
    ledger : Ledger
    note : str
    key : Ed25519PublicKey
    now : float
    origin : str
    since : int
        Size of the largest checkpoint kept here (0 if none) before the party signed this one.
    proof : sequence of bytes
        From that size.
    identity : Identity
        The witness.

    Returns
    -------
    Checkpoint or None
        None if a larger one has been kept since then, so that the proof fits no more.

    Raises
    ------
    AuthenticationError
        The signature does not check, or the log is smaller than before or has forked.
    """
    new = open_checkpoint(only_signers(note, {origin}), key, origin)
    while True:
        with ledger.reading() as tx:
            known, same = latest(tx, origin), find(tx, origin, new.size)
        if new.size < since:
            fork = f"had {since} entries and now shows {new.size}"
        elif same is None and known is not None and known.size != since:
            return None
        else:
            fork = _fork(known, same, new, proof, ledger.party)
        found = _keep(ledger, new, known, same, fork, now, identity)
        if found is not None:
            return found


def _keep(
    ledger: Ledger,
    new: Checkpoint,
    known: Checkpoint | None,
    same: Checkpoint | None,
    fork: str,
    now: float,
    identity: Identity | None,
) -> Checkpoint | None:
    """Keep what was judged, unless ``known`` is the largest no more."""
    check_origin(new.origin)
    if not fork:
        # A cosignature says "the largest seen", once: one that is known gets no other, unless
        # it is the largest still and the witness has a new key.
        if identity is not None and (
            same is None or (same == known and not _is_cosigned(same, identity))
        ):
            new = cosign(new, identity, now)
        if same is not None and merge_signatures(same.note, new.note) == same.note:
            return same
    with ledger.transaction() as tx:
        if latest(tx, new.origin) != known:
            return None
        if not fork:
            return store(tx, new, now)
        store(tx, new, now, where=new.origin + _REFUSED)
    raise AuthenticationError(
        f"the audit log {new.origin} {fork}; both checkpoints are kept as evidence.",
        party=ledger.party,
        step=_STEP,
        fix="trust nothing of this log until its party has explained it to all members",
    )


def _is_cosigned(checkpoint: Checkpoint, identity: Identity) -> bool:
    try:
        verify_cosignature(checkpoint.note, identity.name, identity.public_key)
    except AuthenticationError:
        return False
    return True


def _fork(
    known: Checkpoint | None,
    same: Checkpoint | None,
    new: Checkpoint,
    proof: ConsistencyProof | None,
    party: str,
) -> str:
    if same is not None and same.root != new.root:
        return f"shows two different histories of {new.size} entries"
    if known is None or same is not None:
        return ""
    if new.size < known.size:
        raise AuthenticationError(
            f"the checkpoint of {new.origin} is older than one seen before.",
            party=party,
            step=_STEP,
            fix="ask the party for its present checkpoint; a log never becomes shorter",
        )
    if proof is None:
        raise AuthenticationError(
            f"the checkpoint of {new.origin} came without the proof that it continues the one "
            "seen before.",
            party=party,
            step=_STEP,
            fix=f"ask the party for the consistency proof from {known.size} to {new.size}",
        )
    hashes = proof(known.size, new.size) if callable(proof) else proof
    if not same_history(known, new, hashes):
        return f"does not continue the history of {known.size} entries that it showed before"
    return ""
