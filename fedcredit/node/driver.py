"""Runs a role over a channel: encode, sign and send; receive, verify, decode and deliver."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fedcredit.errors import FedCreditError, PeerProtocolError, ProtocolError
from fedcredit.node.channel import Channel, Received
from fedcredit.wire import Abort, Message, Session, Transcript, decode, encode

__all__ = ["drive", "open_message", "run_session"]

log = logging.getLogger(__name__)
R = TypeVar("R")


def drive(
    channel: Channel,
    role: Coroutine[Any, Any, R],
    *,
    transcript: Transcript | None = None,
    on_message: Callable[[], None] | None = None,
) -> R:
    """Run a role to its end over an open session, and close the channel.

    When the role fails, or a peer sends something that its signature makes its own and that the
    protocol does not allow, every peer is sent an :class:`~fedcredit.wire.Abort`. What is not
    validly signed never reaches this function.

    Parameters
    ----------
    channel : Channel
    role : coroutine
        Created but not started.
    transcript : Transcript, optional
        Counts what this party sends and receives; between other parties it sees nothing.
    on_message : callable, optional
        Called after every message sent or received (progress displays).

    Returns
    -------
    object
        What the role returned.

    Raises
    ------
    FedCreditError
        What the role raised, a peer's abort, or a peer that stayed away.
    """
    session = Session(role, party=channel.party)
    try:
        run_session(channel, session, transcript=transcript, on_message=on_message)
        return session.result
    finally:
        channel.close()


def run_session(
    channel: Channel,
    session: Session[Any],
    *,
    transcript: Transcript | None = None,
    on_message: Callable[[], None] | None = None,
) -> None:
    """Run a session's role to its end; the channel stays open for whoever owns it.

    What a client that may leave asks next is waited for as long as its process is there; every
    other message for the idle timeout.

    Parameters
    ----------
    channel : Channel
    session : Session
    transcript, on_message
        As for :func:`drive`.

    Raises
    ------
    FedCreditError
        What the role raised, a peer's abort, or a peer that stayed away. The peers have been
        told, and nothing more can be done with the channel than to close it.
    """
    culprit: str | None = None

    def count(sender: str, recipient: str, message: Any, body: Any) -> None:
        if transcript is not None:
            transcript.record(sender, recipient, message, body)
        if on_message is not None:
            on_message()

    try:
        while True:
            for recipient, message in session.outgoing():
                if recipient not in channel.peers:
                    raise ProtocolError(f"there is no party {recipient}.", party=channel.party)
                body = encode(message)
                channel.send(recipient, message.kind, body)
                count(channel.party, recipient, message, body)
            if session.done:
                return
            peer = session.waiting_for
            received = channel.receive(peer, math.inf if peer in session.may_leave else None)
            message = open_message(received)
            count(received.sender, channel.party, message, received.body)
            if isinstance(message, Abort):
                culprit = received.sender
            session.deliver(received.sender, message)
    except BaseException as error:
        if not session.done:
            session.close()
        _abort(channel, error, culprit)
        raise


def open_message(received: Received) -> Message:
    """Decode what a channel received.

    Raises
    ------
    PeerProtocolError
        It is no message, or of another kind than its signed header says.
    """
    try:
        message = decode(received.body)
        if message.kind != received.kind:
            raise PeerProtocolError(found=message.kind, expected=received.kind)
    except PeerProtocolError as error:
        raise error.at(party=received.sender, step=f"receive {received.kind}") from None
    return message


def _abort(channel: Channel, error: BaseException, but: str | None) -> None:
    if isinstance(error, KeyboardInterrupt | SystemExit):
        log.warning("interrupted at %s", channel.party)
    elif not isinstance(error, FedCreditError):
        log.error("a role failed at %s (%s)", channel.party, type(error).__name__)
    # A failing announcement must not hide what is being announced.
    with contextlib.suppress(FedCreditError):
        body = encode(Abort.of(error, party=channel.party))
        for name in channel.peers:
            if name != but:
                channel.send(name, Abort.kind, body, urgent=True)
