"""Progress of a federation's sessions on a terminal: one line per session.

A line shows who is waited for, how far the work is, its speed, the bytes on the wire, and the time
left; the finished line stays, with the time it took. Everything goes to standard error, and only
if that is a terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TimeRemainingColumn,
)
from rich.text import Text

from fedcredit.cli.output import human_bytes

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation
    from fedcredit.node.link import Link
    from fedcredit.node.remote import Event

__all__ = ["CONSOLE", "federation_bars"]

#: What a bar counts, by the first part of a job's name.
_UNITS = {"train": "trees", "regress": "gradients"}

#: Standard error. What is printed through it while a bar is shown stands above the bar.
CONSOLE = Console(stderr=True)


class _Step(ProgressColumn):
    """Names the step, and for whom it waits."""

    max_refresh = 0.2

    def __init__(self, phase: str, providers: tuple[str, ...], link: Link) -> None:
        super().__init__()
        self._phase, self._providers, self._link = phase, providers, link
        self._away = ""

    def render(self, task: Task) -> Text:
        """Show the step."""
        if task.finished:
            return Text(f"{self._phase:<7}")
        # The screen is locked here. Whoever holds the link's lock may be about to print.
        lock = self._link.sessions.lock
        if lock.acquire(blocking=False):
            try:
                presence = self._link.sessions.presence
                away = [name for name in self._providers if name not in presence.serving()]
                self._away = "the hub" if presence.down_since is not None else ", ".join(away)
            finally:
                lock.release()
        return Text(f"{self._phase}: waiting for {self._away}" if self._away else self._phase)


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show the units done, and in total."""
        if not task.total:
            return Text("")
        return Text(f"{task.completed:,.0f}/{task.total:,.0f} {task.fields['unit']}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show the speed in the task's unit, with two digits at least."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        number = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
        return Text(f"{number} {task.fields['unit']}/s")


class _Bytes(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show the bytes that crossed the wire."""
        count = task.fields["bytes"]
        return Text(human_bytes(count) if count else "")


class _Bars:
    """Follows the sessions of one federation; all calls come from the thread that runs them."""

    def __init__(self, federation: Federation, *, show: bool) -> None:
        self._federation, self._show = federation, show
        self._link: Link = federation.backend.link  # type: ignore[attr-defined]
        self._bars: Progress | None = None
        self._task = TaskID(0)
        self._passes = 0
        self._last = 0

    def on_event(self, event: Event) -> None:
        """Follow the session: that it is wanted, perhaps for another time, and that it is over."""
        phase = (event.job or "").partition("-")[0]
        providers = event.text.removeprefix("for ")
        if event.kind == "waiting" and providers:
            self._passes = self._last = 0
            if self._bars is None:
                self._begin(phase, tuple(providers.split(", ")))
        elif event.kind == "finished":
            self.end(complete=True)

    def on_message(self) -> None:
        """Count the bytes."""
        if self._bars is not None:
            counts = self._federation.session_counts()
            self._update(bytes=sum(count.bytes for count in counts.values()))

    def on_progress(self, step: str, done: int, total: int) -> None:
        """Move the bar."""
        if self._bars is None:
            return
        if not step.startswith("align"):
            self._update(completed=done, total=total)
            return
        # Every provider is a pass over the platform's rows, counted in the protocol's own pieces.
        if done < self._last:
            self._passes += 1
        self._last = done
        rows = len(self._federation.table.frame)
        self._update(
            completed=(self._passes + done / total) * rows,
            total=len(self._federation.providers) * rows,
        )

    def _begin(self, phase: str, providers: tuple[str, ...]) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            _Step(phase, providers, self._link),
            BarColumn(bar_width=20),
            _Done(),
            _Rate(),
            _Bytes(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=CONSOLE,
            disable=not self._show,
            # Results that go to standard output must get there, wherever it leads.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        unit = _UNITS.get(phase, "rows")
        self._task = self._bars.add_task(phase, total=None, unit=unit, bytes=0)
        self._bars.start()

    def _update(self, **changes: Any) -> None:
        assert self._bars is not None
        self._bars.update(self._task, **changes)

    def end(self, *, complete: bool) -> None:
        """Leave the line as it is; a complete one is full, whatever was counted."""
        if self._bars is None:
            return
        if complete:
            task = self._bars.tasks[0]
            total = task.total or 1
            self._update(total=total, completed=total)
        self._bars.stop()
        self._bars = None


@contextlib.contextmanager
def federation_bars(federation: Federation, *, show: bool | None = None) -> Iterator[None]:
    """Show the progress of whatever the federation does over real nodes within the block.

    Parameters
    ----------
    federation : Federation
    show : bool, optional
        By default, only if standard error is a terminal.
    """
    backend: Any = federation.backend
    bars = _Bars(federation, show=CONSOLE.is_terminal if show is None else show)
    told, counted, followed = backend.on_event, backend.on_message, federation.on_progress

    def on_event(event: Event) -> None:
        bars.on_event(event)
        if told is not None:
            told(event)

    def on_message() -> None:
        bars.on_message()
        if counted is not None:
            counted()

    def on_progress(step: str, done: int, total: int) -> None:
        bars.on_progress(step, done, total)
        followed(step, done, total)

    backend.on_event, backend.on_message, federation.on_progress = on_event, on_message, on_progress
    try:
        yield
    finally:
        bars.end(complete=False)
        backend.on_event, backend.on_message = told, counted
        federation.on_progress = followed
