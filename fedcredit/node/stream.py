"""One connected process at the hub: a bounded queue and the thread that empties it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from fedcredit.node.frames import Frame

__all__ = ["Stream"]

log = logging.getLogger(__name__)

_CONTROL_LIMIT = 10_000


class Stream:
    """A process's stream as the hub sees it.

    Parameters
    ----------
    party : str
    boot : bytes
    serving : bool
        Whether it answers proposals of sessions.
    writer : pyarrow.flight.MetadataRecordBatchWriter
        Used by :meth:`pump` alone.
    queue_bytes : int
        Bytes that may wait.
    quiet : float
        Seconds without a sign of life after which the stream is closed.
    """

    def __init__(
        self, party: str, boot: bytes, serving: bool, writer: Any, *, queue_bytes: int, quiet: float
    ) -> None:
        self.party, self.boot, self.serving = party, boot, serving
        self.since = time.time()
        self.bytes_in = self.bytes_out = 0
        #: Since when its reader waits for a frame; None while it passes one on.
        self.waiting_since: float | None = None
        self.closed = False
        self._writer = writer
        self._limit = queue_bytes
        self._quiet = quiet
        self._queue: deque[tuple[bytes, pa.RecordBatch | None, int]] = deque()
        self._queued = 0
        self._changed = threading.Condition()

    def control(self, frame: Frame) -> None:
        """Queue a frame of the hub's own; never blocks."""
        with self._changed:
            if self.closed:
                return
            if len(self._queue) > _CONTROL_LIMIT:
                self._close_locked()
                return
            self._queue.append((frame.encode(), None, 0))
            self._changed.notify_all()

    def relay(self, metadata: bytes, batch: pa.RecordBatch | None, size: int, stall: float) -> bool:
        """Queue another party's frame; wait while the queue is full. False if it was dropped."""
        with self._changed:
            taken, deadline = self.bytes_out, time.monotonic() + stall
            while not self.closed and self._queue and self._queued + size > self._limit:
                if self.bytes_out != taken:
                    taken, deadline = self.bytes_out, time.monotonic() + stall
                if not self._changed.wait(deadline - time.monotonic()):
                    log.warning("%s takes nothing any more: disconnected", self.party)
                    self._close_locked()
            if self.closed or (batch is None and len(self._queue) > _CONTROL_LIMIT):
                return False
            self._queue.append((metadata, batch, size))
            self._queued += size
            self._changed.notify_all()
            return True

    def pump(self) -> None:
        """Write what is queued until the stream closes (the writer thread's work)."""
        while True:
            with self._changed:
                while not self._queue:
                    if self.closed:
                        return
                    if not self._changed.wait(self._quiet / 4):
                        self._check_quiet_locked()
                metadata, batch, size = self._queue.popleft()
            try:
                if batch is None:
                    self._writer.write_metadata(metadata)
                else:
                    self._writer.write_with_metadata(batch, metadata)
            except (pa.ArrowException, fl.FlightError, OSError):
                self.close()
                return
            with self._changed:
                self._queued -= size
                self.bytes_out += size
                self._changed.notify_all()

    def _check_quiet_locked(self) -> None:
        since = self.waiting_since
        if since is not None and time.monotonic() - since > self._quiet:
            log.warning("nothing heard from %s: disconnected", self.party)
            self._close_locked()

    def finish(self) -> None:
        """Close once everything queued has been written."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close at once; what is queued is dropped and will be sent again by its sender."""
        with self._changed:
            self._close_locked()

    def _close_locked(self) -> None:
        self.closed = True
        self._queue.clear()
        self._changed.notify_all()
