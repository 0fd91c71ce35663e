"""How a client leaves a session whose other parties serve it for as long as it stays."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire.message import Message

__all__ = ["Goodbye"]


@dataclass(frozen=True, eq=False, repr=False)
class Goodbye(
    Message, kind="wire.goodbye", version=1, max_bytes=4 << 10, reveals="that the client leaves"
):
    """Client to every server of its session: there will be no further request.

    A role never sees it: see ``may_leave`` of :class:`~fedcredit.wire.Session`.
    """
