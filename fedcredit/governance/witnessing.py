"""A member's part in exchanges of checkpoints: it witnesses other logs and shows its own.

These classes do what :mod:`fedcredit.protocols.checkpoints` asks of a member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import AuthenticationError
from fedcredit.governance import witness as witnesses
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.audit_read import default_origin
from fedcredit.governance.checkpoint import (
    Checkpoint,
    merge_signatures,
    only_signers,
    verify_cosignature,
)
from fedcredit.governance.ledger import Ledger
from fedcredit.wire import Identity

__all__ = ["LogWitness", "WitnessedLog", "witnessed_sizes"]

_STEP = "witness a checkpoint"
_KIND = "witness_refused"


class LogWitness:
    """Witnesses the audit logs of others; keeps their checkpoints in a ledger.

    Parameters
    ----------
    ledger : Ledger
    identity : Identity
        Cosigns.
    clock : callable
        Gives seconds since the epoch (UTC).
    """

    def __init__(self, ledger: Ledger, identity: Identity, clock: Callable[[], float]) -> None:
        self.ledger = ledger
        self._identity, self._clock = identity, clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._identity.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a witness holds a signing key and is never pickled")

    def known(self, party: str) -> int:
        """Return the size of the largest checkpoint kept of a party's log; 0 if none."""
        with self.ledger.reading() as tx:
            last = witnesses.latest(tx, default_origin(party))
        return 0 if last is None else last.size

    def judge(
        self, party: str, key: Ed25519PublicKey, note: str, proof: Sequence[bytes], *, since: int
    ) -> str | None:
        """Check, keep and cosign a party's present checkpoint.

        See :meth:`fedcredit.protocols.checkpoints.Witness.judge`.

        Raises
        ------
        AuthenticationError
            Refused; the notes are kept, and a party logs it.
        """
        origin = default_origin(party)
        try:
            kept = witnesses.witness_present(
                self.ledger,
                note,
                key,
                self._clock(),
                origin=origin,
                since=since,
                proof=proof,
                identity=self._identity,
            )
        except AuthenticationError as error:
            self._refused(party, note, since, error)
            raise
        if kept is None:
            return None
        return only_signers(kept.note, {origin, self._identity.name})

    def _refused(self, party: str, note: str, since: int, error: AuthenticationError) -> None:
        """Do nothing: a witness without a log of its own keeps the notes only."""


class WitnessedLog(LogWitness):
    """A party's part: it witnesses the logs of others and has its own witnessed.

    A refusal is an entry ``witness_refused`` of its own log.

    Parameters
    ----------
    log : AuditLog
    identity : Identity
        The one that signs the log.
    clock : callable
        Gives seconds since the epoch (UTC).
    """

    def __init__(self, log: AuditLog, identity: Identity, clock: Callable[[], float]) -> None:
        super().__init__(log.ledger, identity, clock)
        self._log = log

    def head(self) -> tuple[str, int]:
        """Sign the log as it is now; return note and size.

        Raises
        ------
        StorageError
            The log no longer continues its last checkpoint.
        """
        made = self._log.checkpoint(self._clock())
        return only_signers(made.note, {made.origin}), made.size

    def prove(self, first: int, size: int) -> tuple[bytes, ...]:
        """Prove that the log of ``size`` entries continues the one of ``first``."""
        return self._log.prove_consistency(first, size)

    def keep(self, witness: str, key: Ed25519PublicKey, note: str, size: int) -> None:
        """Check and keep a witness's copy of the own checkpoint of ``size`` entries.

        Raises
        ------
        AuthenticationError
            It is of something else, or its cosignature does not check.
        """
        # Whatever else a witness adds would stand in the evidence as if others had signed it.
        copy = only_signers(note, {self._log.origin, witness})
        if Checkpoint.parse(copy).size != size:
            raise AuthenticationError("the copy is of another checkpoint.", step=_STEP)
        verify_cosignature(copy, witness, key)
        with self.ledger.reading() as tx:
            kept = witnesses.find(tx, self._log.origin, size)
        if kept is None or merge_signatures(kept.note, copy) != kept.note:
            self._log.accept_copy(copy, self._clock())

    def _refused(self, party: str, note: str, since: int, error: AuthenticationError) -> None:
        facts: dict[str, object] = {"log": party, "known": since, "why": error.reason}
        try:
            shown = Checkpoint.parse(note)
        except AuthenticationError:
            pass
        else:
            facts |= {"size": shown.size, "root": shown.root.hex()}
        with self.ledger.transaction() as tx:
            self._log.append(tx, _KIND, facts, now=self._clock())


def witnessed_sizes(log: AuditLog) -> dict[str, int]:
    """Return by witness the largest size of a log at which it has cosigned it.

    As the copies say that are kept here; their cosignatures were checked when they came.
    """
    with log.ledger.reading() as tx:
        kept = witnesses.seen(tx, log.origin)
    found: dict[str, int] = {}
    for copy in kept:
        for name in copy.signers:
            if name != log.origin:
                found[name] = copy.size  # in ascending order
    return dict(sorted(found.items()))
