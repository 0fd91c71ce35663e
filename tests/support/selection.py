"""Receivers and senders of oblivious selection, for its tests."""

from __future__ import annotations

import secrets

import numpy as np

from fedcredit.crypto import _selection_vole as vole
from fedcredit.crypto.softspoken import SelectionReceiver, SelectionSender

SESSION = b"selection-session"


def connect(session: bytes = SESSION) -> tuple[SelectionReceiver, SelectionSender]:
    receiver, sender = SelectionReceiver(session), SelectionSender(session)
    sender.finish(receiver.finish(sender.reply(receiver.offer())))
    return receiver, sender


def join(session: bytes = SESSION) -> tuple[SelectionReceiver, SelectionSender]:
    """Return a pair as it is after its setup, without the public-key work of the setup."""
    receiver, sender = SelectionReceiver(session), SelectionSender(session)
    seeds = np.frombuffer(secrets.token_bytes(32 * 16 * 16), np.uint8).reshape(32, 16, 16)
    receiver._columns = vole.Columns(seeds, None)
    sender._columns = vole.Columns(seeds, sender._delta)
    for side in (receiver, sender):
        side._bind(b"setup")
    return receiver, sender
