"""What commands print: tables for people, JSON for scripts; progress on standard error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = ["Tracker", "human_bytes", "json_option", "print_json", "print_table", "progress"]


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command (parameter ``as_json``)."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on standard output."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def human_bytes(count: float) -> str:
    """Return a number of bytes in a unit of three digits at most."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show the speed in the task's unit."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


class _Bytes(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show the bytes that crossed the wire."""
        count = task.fields["bytes"]
        return Text(human_bytes(count) if count else "")


class Tracker:
    """One progress bar. Its methods may be called from any thread."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, units: float = 1) -> None:
        """Add units of work done."""
        self._bars.update(self._task, advance=units)

    def update(
        self,
        *,
        done: float | None = None,
        total: float | None = None,
        wire_bytes: int | None = None,
        description: str | None = None,
    ) -> None:
        """Set what is given: units done and in total, bytes on the wire, the text."""
        changes: dict[str, Any] = {}
        if wire_bytes is not None:
            changes["bytes"] = wire_bytes
        if description is not None:
            changes["description"] = description
        self._bars.update(self._task, completed=done, total=total, **changes)


@contextlib.contextmanager
def progress(
    description: str, *, total: float | None = None, unit: str = "rows", show: bool | None = None
) -> Iterator[Tracker]:
    """Show a progress bar with speed, bytes on the wire and time left, on standard error.

    Parameters
    ----------
    description : str
    total : float, optional
        Units of work; unknown by default.
    unit : str
        Plural, for the speed (``rows/s``).
    show : bool, optional
        By default, only if standard error is a terminal.

    Yields
    ------
    Tracker
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _Rate(),
        _Bytes(),
        TimeRemainingColumn(),
        console=console,
        disable=not (console.is_terminal if show is None else show),
    ) as bars:
        yield Tracker(bars, bars.add_task(description, total=total, unit=unit, bytes=0))
