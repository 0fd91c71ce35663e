"""How a session is opened: fresh nonces from everybody, certificates, one identifier.

::

    coordinator C                          every participant P_i
      | -- Propose(job, P.., nonce_C, cert_C) ->|   checks cert_C, and whether C may open this
      |<- Accept(nonce_i, cert_i) ------------- |   or Decline
      | -- Opened(all nonces, certs, boots) --> |   finds its own nonce, checks every certificate
      |<- Ready(session) ---------------------- |   listens in the new session
      | -- Begin(session) --------------------> |   all are ready: the role starts

    session = SHA-256("fedcredit/session/1" | job | C | P_1.. | nonce_C | nonce_1..)
              (of an institution: "fedcredit/service/1")

with every part preceded by its length. Each party contributed a fresh nonce, so nobody can be
drawn into an earlier session or one whose members differ from what it was shown; all later
envelopes are signed over the identifier. The five messages travel as signed envelopes themselves,
in a session named after the proposal: SHA-256("fedcredit/proposal/1" | C | nonce_C).

A session is a job of a coordinator, or the service that an institution asks for; which one the
proposal says, and the identifier binds.

What each learns: the job's name, the members' names and certificates, and random numbers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit import errors
from fedcredit.errors import (
    AuthenticationError,
    FedCreditError,
    PeerProtocolError,
    PeerUnavailable,
    ProtocolError,
    SessionLost,
)
from fedcredit.node.channel import Channel, PeerKey
from fedcredit.node.frames import Frame, piece_body
from fedcredit.node.link import Link
from fedcredit.node.opening import (
    Accept,
    Begin,
    Decline,
    Opened,
    Propose,
    Ready,
    proposal_id,
    session_id,
)
from fedcredit.wire import Abort, Envelope, Message, decode, encode

__all__ = ["answer_proposal", "decline", "open_session", "read_proposal"]

NONCE_BYTES = 32
MAX_PARTICIPANTS = 64
MAX_JOB = 200
_STEP = "open a session"
M = TypeVar("M", bound=Message)


# --- coordinator ---------------------------------------------------------------------------------


def open_session(
    link: Link, job: str, participants: Mapping[str, bytes], *, service: bool = False
) -> Channel:
    """Open a session with participants (coordinator).

    Parameters
    ----------
    link : Link
    job : str
        Shown to the participants; at most 200 characters, no data.
    participants : mapping of party name to boot
        In the session's order; from :meth:`Link.wait_for`.
    service : bool
        Whether this party is an institution that asks to be served.

    Returns
    -------
    Channel
        Everybody listens in it.

    Raises
    ------
    SessionLost
        A participant vanished meanwhile; worth another attempt.
    AuthenticationError
        A participant's certificate does not check.
    ProtocolError
        A participant declines (its own error class) or breaks the protocol.
    """
    credentials, names = link.credentials, tuple(participants)
    nonce = secrets.token_bytes(NONCE_BYTES)
    certificates: dict[str, bytes] = {}
    keys: dict[str, Ed25519PublicKey] = {}

    def introduce(envelope: Envelope) -> Ed25519PublicKey:
        message = decode(envelope.body)
        if not isinstance(message, Accept | Decline):
            raise AuthenticationError(f"{envelope.sender} did not introduce itself.", step=_STEP)
        key = credentials.trust.verify_signing(envelope.sender, message.certificate)
        certificates[envelope.sender], keys[envelope.sender] = message.certificate, key
        return key

    setup = link.sessions.open(
        proposal_id(link.party, nonce),
        {name: PeerKey(boot, None, serving=True) for name, boot in participants.items()},
        introduce=introduce,
    )
    try:
        proposal = Propose(
            job[:MAX_JOB], service, link.party, names, nonce, credentials.certificate
        )
        _broadcast(setup, proposal)
        accepted = _gather(setup, names, Accept)
        nonces = (nonce, *(accepted[name].nonce for name in names))
        _check_nonces(nonces)
        session = session_id(proposal.job, link.party, names, nonces, service=service)
        channel = link.sessions.open(
            session,
            {
                name: PeerKey(boot, keys[name], serving=True, certificate=certificates[name])
                for name, boot in participants.items()
            },
        )
        try:
            _broadcast(
                setup,
                Opened(
                    nonces,
                    (credentials.certificate, *(certificates[name] for name in names)),
                    (link.boot, *participants.values()),
                ),
            )
            for name, ready in _gather(setup, names, Ready).items():
                if ready.session != session:
                    raise AuthenticationError(
                        f"{name} derived another session identifier.", party=name, step=_STEP
                    )
            _broadcast(setup, Begin(session))
        except BaseException:
            channel.close()
            raise
        return channel
    except BaseException as error:
        _announce(setup, error)
        raise
    finally:
        setup.close()


def _broadcast(channel: Channel, message: Message) -> None:
    body = encode(message)
    for name in channel.peers:
        channel.send(name, message.kind, body)


def _gather(channel: Channel, names: Sequence[str], kind: type[M]) -> dict[str, M]:
    deadline = time.monotonic() + channel.timeouts.handshake
    found: dict[str, M] = {}
    while len(found) < len(names):
        missing = next(name for name in names if name not in found)
        try:
            sender, message = _receive(channel, missing, kind, deadline)
        except PeerUnavailable as error:
            if isinstance(error, SessionLost) or time.monotonic() < deadline:
                raise
            # It is connected and serves, yet this answer went astray with a dying process.
            raise SessionLost(
                f"{missing} did not answer within {channel.timeouts.handshake:.0f} s.",
                party=missing,
                step=_STEP,
            ) from None
        if sender in found:
            raise PeerProtocolError(f"{sender} answered twice.", party=sender, step=_STEP)
        found[sender] = message
    return found


def _receive(channel: Channel, peer: str, kind: type[M], deadline: float) -> tuple[str, M]:
    received = channel.receive(peer, max(0.0, deadline - time.monotonic()))
    message = decode(received.body)
    if isinstance(message, Abort):
        raise message.to_error(received.sender)
    if isinstance(message, Decline):
        raise _declined(received.sender, message)
    if not isinstance(message, kind) or received.kind != kind.kind:
        raise PeerProtocolError(
            found=message.kind, expected=kind.kind, party=received.sender, step=_STEP
        )
    return received.sender, message


def _declined(sender: str, message: Decline) -> FedCreditError:
    kind = getattr(errors, message.code, None)
    if not (isinstance(kind, type) and issubclass(kind, FedCreditError)):
        kind = ProtocolError
    error: FedCreditError = kind(
        message.reason[:600], party=sender, step=_STEP, fix=message.fix[:600] or None
    )
    return error


def _announce(channel: Channel, error: BaseException) -> None:
    abort = encode(Abort.of(error, party=channel.party))
    for name in channel.peers:
        channel.send(name, Abort.kind, abort, urgent=True)


def _check_nonces(nonces: Sequence[bytes]) -> None:
    if any(len(nonce) != NONCE_BYTES for nonce in nonces) or len(set(nonces)) != len(nonces):
        raise AuthenticationError("a session's nonces are malformed or repeated.", step=_STEP)


# --- participant ---------------------------------------------------------------------------------


def read_proposal(link: Link, frame: Frame, batch: pa.RecordBatch) -> tuple[Channel, Propose]:
    """Verify a proposal (participant, reader thread).

    Returns
    -------
    Channel
        The proposal's own session, in which :func:`answer_proposal` or :func:`decline` answers.
    Propose

    Raises
    ------
    AuthenticationError
        Certificate, signature or identifier do not check.
    PeerProtocolError
        It is no proposal to this party.
    """
    header = Envelope.parse(frame.rest, pa.py_buffer(b""))
    body = piece_body(batch)
    whole = frame.offset == 0 and frame.total == body.size <= Propose.max_bytes
    if header.kind != Propose.kind or not whole:
        raise PeerProtocolError("an envelope belongs to no session here.")
    message = decode(body)
    if not isinstance(message, Propose):
        raise PeerProtocolError("an envelope belongs to no session here.")
    members = message.participants
    if (
        message.coordinator != frame.sender
        or len(message.nonce) != NONCE_BYTES
        or link.party not in members
        or message.coordinator in members
        or len(set(members)) != len(members)
        or len(members) > MAX_PARTICIPANTS
        or len(message.job) > MAX_JOB
        or frame.session != proposal_id(message.coordinator, message.nonce)
    ):
        raise PeerProtocolError("a proposal is malformed.", party=frame.sender)
    key = link.credentials.trust.verify_signing(frame.sender, message.certificate)
    setup = link.sessions.open(
        frame.session,
        {
            frame.sender: PeerKey(
                frame.sender_boot, key, serving=False, certificate=message.certificate
            )
        },
    )
    try:
        setup.on_piece(frame, batch)
        setup.receive(frame.sender, 0.0)
    except (FedCreditError, ValueError):
        setup.close()
        raise AuthenticationError("a proposal's signature does not check.") from None
    return setup, message


def decline(link: Link, setup: Channel, error: FedCreditError) -> None:
    """Answer a proposal with an error (participant)."""
    message = Decline(
        link.credentials.certificate, type(error).__name__, error.reason, error.fix or ""
    )
    (coordinator,) = setup.peers
    setup.send(coordinator, message.kind, encode(message), urgent=True)
    setup.close()


def answer_proposal(link: Link, setup: Channel, proposal: Propose) -> Channel:
    """Take part in a proposed session (participant).

    Returns
    -------
    Channel
        The session; everybody listens in it.

    Raises
    ------
    AuthenticationError
        The coordinator's list does not hold this party's own nonce and certificate, or another
        member's certificate does not check.
    FedCreditError
        The coordinator aborted, vanished or broke the protocol.
    """
    credentials, coordinator = link.credentials, proposal.coordinator
    names = proposal.participants
    nonce = secrets.token_bytes(NONCE_BYTES)
    channel: Channel | None = None
    try:
        accept = Accept(nonce, credentials.certificate)
        setup.send(coordinator, accept.kind, encode(accept))
        deadline = time.monotonic() + setup.timeouts.handshake
        _, opened = _receive(setup, coordinator, Opened, deadline)
        _check_opened(link, proposal, opened, nonce)
        session = session_id(
            proposal.job, coordinator, names, opened.nonces, service=proposal.service
        )
        peers = {coordinator: setup.peers[coordinator]}
        for name, der, boot in zip(names, opened.certificates[1:], opened.boots[1:], strict=True):
            if name != link.party:
                key = credentials.trust.verify_signing(name, der)
                peers[name] = PeerKey(boot, key, serving=True, certificate=der)
        channel = link.sessions.open(session, peers)
        ready = Ready(session)
        setup.send(coordinator, ready.kind, encode(ready))
        _, begin = _receive(setup, coordinator, Begin, deadline)
        if begin.session != session:
            raise AuthenticationError("the coordinator began another session.", step=_STEP)
        return channel
    except BaseException as error:
        if channel is not None:
            channel.close()
        _announce(setup, error)
        raise
    finally:
        setup.close()


def _check_opened(link: Link, proposal: Propose, opened: Opened, nonce: bytes) -> None:
    members = len(proposal.participants) + 1
    if not len(opened.nonces) == len(opened.certificates) == len(opened.boots) == members:
        raise PeerProtocolError("a session's list of members is malformed.", step=_STEP)
    _check_nonces(opened.nonces)
    own = proposal.participants.index(link.party) + 1
    ours = nonce, link.credentials.certificate, link.boot
    if (opened.nonces[own], opened.certificates[own], opened.boots[own]) != ours:
        raise AuthenticationError(
            "a session was opened without this party's own nonce; it may be a replay.",
            party=link.party,
            step=_STEP,
        )
    if opened.nonces[0] != proposal.nonce or opened.certificates[0] != proposal.certificate:
        raise AuthenticationError("a session differs from its proposal.", step=_STEP)
