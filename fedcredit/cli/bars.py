"""Progress bars of a federation's steps: one bar per step, with speed, bytes and time left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedcredit.cli.output import Tracker, progress

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation

__all__ = ["federation_bars"]

_UNITS = {"train": "trees"}


@contextlib.contextmanager
def federation_bars(federation: Federation, *, show: bool | None = None) -> Iterator[None]:
    """Show the progress of whatever the federation does within the block.

    Parameters
    ----------
    federation : Federation
    show : bool, optional
        By default, only if standard error is a terminal.
    """
    with contextlib.ExitStack() as stack:
        trackers: dict[str, Tracker] = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in trackers:
                unit = _UNITS.get(step, "rows")
                trackers[step] = stack.enter_context(progress(step, unit=unit, show=show))
            sent = sum(count.bytes for count in federation.session_counts().values())
            trackers[step].update(done=done, total=total, wire_bytes=sent)
            if done >= total:
                trackers.pop(step)
                stack.pop_all().close()

        previous, federation.on_progress = federation.on_progress, on_progress
        try:
            yield
        finally:
            federation.on_progress = previous
