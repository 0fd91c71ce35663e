"""Naming the peer whose message made a computation fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fedcredit.errors import FedCreditError
from fedcredit.wire import Peer

__all__ = ["blamed_on"]


@contextmanager
def blamed_on(peer: Peer, step: str) -> Iterator[None]:
    """Fill ``peer`` and ``step`` into errors of the block, which only handles its message.

    Without it the session names the party at which the error came up.
    """
    try:
        yield
    except FedCreditError as error:
        error.at(party=peer.name, step=step)
        raise
