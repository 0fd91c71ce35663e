"""Who is connected to the hub, as the hub tells it. Guarded by the link's lock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fedcredit.errors import PeerProtocolError
from fedcredit.node.frames import BOOT_BYTES

__all__ = ["Presence", "Process"]

#: A party's name and the boot of one of its processes.
Process = tuple[str, bytes]
_MAX_LEFT = 4096


class Presence:
    """Which processes are there, and since when others, or the hub itself, are away.

    The hub's word is taken for it: a hub that lies about who is there delays or ends sessions,
    which it could do anyhow, and nothing more.

    Attributes
    ----------
    down_since : float or None
        When the connection to the hub was lost (``time.monotonic``); None while it is up.
    """

    def __init__(self) -> None:
        self.down_since: float | None = time.monotonic()
        self._up_since = 0.0
        self._present: dict[Process, bool] = {}
        self._left: dict[Process, float] = {}

    def __contains__(self, process: Process) -> bool:
        return process in self._present

    def update(self, notice: Mapping[str, Any]) -> set[Process]:
        """Take in a ``welcome``, ``online`` or ``offline`` notice; return who arrived.

        Raises
        ------
        PeerProtocolError
            The notice is malformed.
        """
        try:
            if notice["event"] == "welcome":
                online = {_process(entry): entry["serving"] is True for entry in notice["online"]}
                self._present = online
                self._up_since, self.down_since = time.monotonic(), None
                return set(online)
            process = _process(notice)
            if notice["event"] == "online":
                self._present[process] = notice["serving"] is True
                return {process}
        except (ValueError, TypeError, KeyError):
            raise PeerProtocolError("the hub sent a malformed notice.") from None
        if self._present.pop(process, None) is not None:
            self._left[process] = time.monotonic()
            while len(self._left) > _MAX_LEFT:
                del self._left[next(iter(self._left))]
        return set()

    def disconnected(self) -> None:
        """Note that the connection to the hub is lost, and with it all knowledge of others."""
        if self.down_since is None:
            self.down_since = time.monotonic()
        self._present.clear()

    def away_since(self, party: str, boot: bytes) -> float | None:
        """Return since when a process is away, counted while the hub was up; None if it is not."""
        if (party, boot) in self._present:
            return None
        return max(self._left.get((party, boot), 0.0), self._up_since)

    def serving(self) -> dict[str, bytes]:
        """Return the serving process of every party that has one."""
        return {party: boot for (party, boot), serves in self._present.items() if serves}


def _process(entry: Mapping[str, Any]) -> Process:
    party, boot = entry["party"], bytes.fromhex(entry["boot"])
    if not isinstance(party, str) or len(boot) != BOOT_BYTES:
        raise ValueError("malformed")
    return party, boot
