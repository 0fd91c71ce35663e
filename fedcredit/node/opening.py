"""The messages that open a session, and the identifiers they are bound to.

:mod:`fedcredit.node.handshake` says who sends which, when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fedcredit.node.sessions import PROPOSAL_KIND
from fedcredit.wire import Message

__all__ = [
    "Accept",
    "Begin",
    "Decline",
    "Opened",
    "Propose",
    "Ready",
    "proposal_id",
    "session_id",
]


@dataclass(frozen=True, eq=False, repr=False)
class Propose(
    Message,
    kind=PROPOSAL_KIND,
    version=2,
    max_bytes=32 << 10,
    reveals="the job's name and the members of the session",
):
    """Coordinator to each participant: who shall take part in what.

    ``service``: the proposer is an institution that asks to be served, not a coordinator of a job.
    """

    job: str
    service: bool
    coordinator: str
    participants: tuple[str, ...]
    nonce: bytes
    certificate: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Accept(
    Message, kind="session.accept", version=1, max_bytes=32 << 10, reveals="a random number"
):
    """Participant to coordinator: takes part, with this nonce and signing certificate (DER)."""

    nonce: bytes
    certificate: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Decline(
    Message,
    kind="session.decline",
    version=1,
    max_bytes=32 << 10,
    reveals="why a participant does not take part",
):
    """Participant to coordinator: does not take part; class and text of an error, no data."""

    certificate: bytes
    code: str
    reason: str
    fix: str


@dataclass(frozen=True, eq=False, repr=False)
class Opened(
    Message,
    kind="session.opened",
    version=1,
    max_bytes=1 << 20,
    reveals="the members' certificates and random numbers",
):
    """Coordinator to each participant: everybody's nonce, certificate and boot, its own first."""

    nonces: tuple[bytes, ...]
    certificates: tuple[bytes, ...]
    boots: tuple[bytes, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Ready(Message, kind="session.ready", version=1, max_bytes=4 << 10, reveals="nothing more"):
    """Participant to coordinator: listens in this session."""

    session: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Begin(Message, kind="session.begin", version=1, max_bytes=4 << 10, reveals="nothing more"):
    """Coordinator to each participant: everybody is ready."""

    session: bytes


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


def proposal_id(coordinator: str, nonce: bytes) -> bytes:
    """Return the identifier of the session in which a proposal itself travels (32 bytes)."""
    return _digest(b"fedcredit/proposal/1", coordinator.encode(), nonce)


def session_id(
    job: str,
    coordinator: str,
    participants: Sequence[str],
    nonces: Sequence[bytes],
    *,
    service: bool = False,
) -> bytes:
    """Return a session's identifier (32 bytes).

    Parameters
    ----------
    job, coordinator : str
    participants : sequence of str
    nonces : sequence of bytes
        The coordinator's, then the participants' in their order; 32 bytes each.
    service : bool
        Whether the coordinator is an institution that asks to be served.
    """
    domain = b"fedcredit/service/1" if service else b"fedcredit/session/1"
    names = [name.encode() for name in (job, coordinator, *participants)]
    count = len(participants).to_bytes(4, "big")
    return _digest(domain, count, *names, *nonces)
