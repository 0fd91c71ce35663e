"""Exchange of checkpoints: the members of a session witness each other's audit logs.

Every party whose log is witnessed does this with every other member, all at once::

    party A                                            member B, a witness
                                     <-------------    CheckpointKnown{size}
      signs its log as it is now
      CheckpointHead{note, proof}    ------------->    checks the signature, and the proof against
                                                       the largest checkpoint that it has kept;
                                                       keeps the new one, cosigns it
                                     <-------------    CheckpointCopy{outcome, note}
      checks the cosignature, keeps
      the copy for evidence
      CheckpointReport{refused}      ------------->    to the client of the session alone

The size comes first, so that the proof starts where the witness stands, and so that whoever shows a
smaller log afterwards has rolled it back. A log that is smaller, that has another root at a size
that was seen, or whose proof does not hold is refused; the note that shows it is kept beside the
one it contradicts, and the session goes on. If another session of the same two parties was faster
in the meantime, the outcome is "overtaken": that session has witnessed a newer checkpoint.

================  ==============================================================================
member            learns
================  ==============================================================================
every member      of each log its number of entries and its root: how much that party has logged
                  since the last exchange, for all institutions and jobs together. The hashes of a
                  proof are of salted entries and tell nothing of them. Which state each other
                  member has seen of the own log
client            besides, whose logs the parties refuse. An institution has no log to show
hub               what every member learns (envelopes are signed; TLS ends at the hub)
================  ==============================================================================

No entry crosses the wire, and no enterprise.

What it is good for: after an exchange, the log up to the checkpoint cannot be changed without every
honest witness finding out in its next exchange, and the two notes prove it to anyone by the log's
own signature. Two witnesses that were shown different histories find out as soon as both histories
meet one honest member. What came after the last exchange is not protected yet, and a party that
keeps an honest witness away from all exchanges shows it nothing. All members may be malicious; a
witness can refuse without reason, which is why its refusal alone proves nothing.

Sources: RFC 9162 (Certificate Transparency 2.0), 2.1.4 (consistency proofs) and 8.3 (what monitors
and auditors compare); C2SP tlog-checkpoint and tlog-cosignature (the notes), and tlog-witness (a
request starts from the size that the witness holds; it is in conflict if that has changed).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import AuthenticationError, InputError, PeerProtocolError
from fedcredit.wire import Message, Peer, Peers

__all__ = [
    "CheckpointCopy",
    "CheckpointHead",
    "CheckpointKnown",
    "CheckpointReport",
    "CheckpointRound",
    "Exchanged",
    "OwnLog",
    "Witness",
    "exchange_checkpoints",
]

_STEP = "exchange checkpoints"
_WITNESSED, _OVERTAKEN, _REFUSED = "witnessed", "overtaken", "refused"
#: A proof between trees of up to 2^63 leaves has fewer hashes.
_MAX_PROOF = 128


@dataclass(frozen=True, eq=False, repr=False)
class CheckpointRound(
    Message,
    kind="checkpoint.round",
    version=1,
    max_bytes=4 << 10,
    reveals="that checkpoints are to be exchanged",
):
    """Client to every party: exchange checkpoints now; ``log``: the client has a log as well."""

    log: bool


@dataclass(frozen=True, eq=False, repr=False)
class CheckpointKnown(
    Message,
    kind="checkpoint.known",
    version=1,
    max_bytes=4 << 10,
    reveals="the largest size at which the witness has seen the log",
):
    """Witness to party: entries of the largest checkpoint that it kept of the log; 0 if none."""

    size: int


@dataclass(frozen=True, eq=False, repr=False)
class CheckpointHead(
    Message,
    kind="checkpoint.head",
    version=1,
    max_bytes=256 << 10,
    reveals="how many entries the party's audit log has",
):
    """Party to witness: its log as it is now, and the proof that it continues what was seen.

    ``proof`` has hashes of 32 bytes; none if the witness knows nothing or the log is no larger.
    """

    note: str
    proof: tuple[bytes, ...]


@dataclass(frozen=True, eq=False, repr=False)
class CheckpointCopy(
    Message,
    kind="checkpoint.copy",
    version=1,
    max_bytes=256 << 10,
    reveals="whether the witness accepts the log",
):
    """Witness to party: ``outcome`` and, if it is "witnessed", the note with its cosignature."""

    outcome: str
    note: str


@dataclass(frozen=True, eq=False, repr=False)
class CheckpointReport(
    Message,
    kind="checkpoint.report",
    version=1,
    max_bytes=64 << 10,
    reveals="whose audit logs the party refuses",
):
    """Party to client: the parties whose logs it has refused in this exchange."""

    refused: tuple[str, ...]


class Witness(Protocol):
    """What a member does for the logs of others."""

    def known(self, party: str) -> int:
        """Return the size of the largest checkpoint kept of a party's log; 0 if none."""

    def judge(
        self, party: str, key: Ed25519PublicKey, note: str, proof: Sequence[bytes], *, since: int
    ) -> str | None:
        """Check a party's present checkpoint, keep it, return it cosigned.

        Parameters
        ----------
        party : str
        key : Ed25519PublicKey
            As the session authenticated it.
        note : str
        proof : sequence of bytes
        since : int
            What :meth:`known` returned before the party signed.

        Returns
        -------
        str or None
            None: a newer one has been kept since then.

        Raises
        ------
        AuthenticationError
            Refused. The notes are kept and the refusal is logged.
        """


class OwnLog(Protocol):
    """What a party does with its own log."""

    def head(self) -> tuple[str, int]:
        """Sign the log as it is now; return note and size."""

    def prove(self, first: int, size: int) -> Sequence[bytes]:
        """Prove that the log of ``size`` entries continues the one of ``first``."""

    def keep(self, witness: str, key: Ed25519PublicKey, note: str, size: int) -> None:
        """Check and keep a witness's copy of the checkpoint of ``size`` entries.

        Raises
        ------
        AuthenticationError
            It is of something else, or its cosignature does not check.
        """


@dataclass(frozen=True)
class Exchanged:
    """What came of an exchange, for one member.

    Attributes
    ----------
    witnessed : tuple of str
        Parties whose logs were accepted here, or by a faster session.
    refused : mapping of str to str
        Parties whose logs were refused here, and why.
    size : int or None
        Entries of the own log that was shown.
    cosigned : tuple of str
        Witnesses whose copies were kept, or that have one of a faster session.
    refused_by : mapping of str to str
        Witnesses that refused the own log or whose copy does not check, and which of both.
    reports : mapping of str to tuple of str
        At the client: by party, whose logs it has refused.
    """

    witnessed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    cosigned: tuple[str, ...] = ()
    refused_by: Mapping[str, str] = field(default_factory=dict)
    reports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


async def exchange_checkpoints(
    peers: Peers,
    me: str,
    *,
    client: str,
    logs: Collection[str],
    witness: Witness,
    own: OwnLog | None = None,
) -> Exchanged:
    """Exchange checkpoints with all members; every member runs this at the same point.

    Parameters
    ----------
    peers : Peers
        All others, with their keys.
    me : str
    client : str
        Who opened the session, and gets the reports.
    logs : collection of str
        The members that have a log; all but the client must.
    witness : Witness
    own : OwnLog, optional
        Given if and only if this member has a log.

    Returns
    -------
    Exchanged

    Raises
    ------
    InputError
        The key of a member is not known here.
    PeerProtocolError
        A peer does not follow the protocol.
    StorageError
        The own log cannot be signed: it no longer continues its own last checkpoint.
    """
    others = [name for name in peers if name in logs]
    since = {name: witness.known(name) for name in others}
    for name in others:
        await peers[name].send(CheckpointKnown(since[name]))
    size = None if own is None else await _show(peers, own)
    witnessed, refused = [], {}
    for name in others:
        head = await peers[name].recv(CheckpointHead)
        copy = _judge(peers[name], head, witness, since[name])
        if isinstance(copy, AuthenticationError):
            refused[name], copy = copy.reason, CheckpointCopy(_REFUSED, "")
        else:
            witnessed.append(name)
        await peers[name].send(copy)
    cosigned, refused_by = [], {}
    if own is not None and size is not None:
        for name in peers:
            problem = _keep(peers[name], await peers[name].recv(CheckpointCopy), own, size)
            if problem:
                refused_by[name] = problem
            else:
                cosigned.append(name)
    reports = {}
    if me == client:
        for name in others:
            reports[name] = (await peers[name].recv(CheckpointReport)).refused
            if not set(reports[name]) <= {me, *peers}:
                raise _violation(name, "reports of parties that are not in this session")
    else:
        await peers[client].send(CheckpointReport(tuple(refused)))
    return Exchanged(tuple(witnessed), refused, size, tuple(cosigned), refused_by, reports)


async def _show(peers: Peers, own: OwnLog) -> int:
    known = {}
    for name in peers:
        known[name] = (await peers[name].recv(CheckpointKnown)).size
        if known[name] < 0:
            raise _violation(name, "names a size below zero")
    # Signed after every witness has said what it knows: whatever one has seen is older.
    note, size = own.head()
    for name, first in known.items():
        proof = own.prove(first, size) if 0 < first < size else ()
        await peers[name].send(CheckpointHead(note, tuple(proof)))
    return size


def _judge(
    peer: Peer, head: CheckpointHead, witness: Witness, since: int
) -> CheckpointCopy | AuthenticationError:
    if len(head.proof) > _MAX_PROOF:
        raise _violation(peer.name, "sends a proof that no log needs")
    try:
        note = witness.judge(peer.name, _key(peer), head.note, head.proof, since=since)
    except AuthenticationError as error:
        return error
    return CheckpointCopy(_OVERTAKEN, "") if note is None else CheckpointCopy(_WITNESSED, note)


def _keep(peer: Peer, copy: CheckpointCopy, own: OwnLog, size: int) -> str:
    if copy.outcome == _REFUSED:
        return "refuses this log"
    if copy.outcome == _OVERTAKEN:
        return ""
    if copy.outcome != _WITNESSED:
        raise _violation(peer.name, "names an unknown outcome")
    try:
        own.keep(peer.name, _key(peer), copy.note, size)
    except AuthenticationError as error:
        return f"gave a copy that does not check: {error.reason}"
    return ""


def _key(peer: Peer) -> Ed25519PublicKey:
    if peer.key is None:
        raise InputError(
            f"the signing key of {peer.name} is not known in this session.",
            step=_STEP,
            fix="give the keys of the members with the peers of the session",
        )
    return peer.key


def _violation(name: str, what: str) -> PeerProtocolError:
    return PeerProtocolError(f"{name} {what}.", party=name, step=_STEP)
