"""How far a role is: a plain callback, since roles know no clocks and no terminals."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "ignore"]

#: Called with (step, done, total).
Progress = Callable[[str, int, int], None]


def ignore(*_: object) -> None:
    """Take a report and do nothing."""
