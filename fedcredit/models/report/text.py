"""How reports write numbers and names: units everywhere, thousands separated, nothing active."""

from __future__ import annotations

import math
import unicodedata

from fedcredit.models.report.scalars import Scalar

__all__ = [
    "ABSENT",
    "count",
    "decimal",
    "fraction",
    "name",
    "percent",
    "scalar",
    "seconds",
    "signed",
    "size",
    "words",
]

#: What stands in a cell whose value is not known.
ABSENT = "–"
_MINUS = "\N{MINUS SIGN}"
_NBSP = "\N{NO-BREAK SPACE}"
_SI = ("B", "kB", "MB", "GB", "TB")
_LONGEST_NAME = 80


def name(text: str) -> str:
    """Return a foreign name that is safe to print.

    Control characters (terminal escapes, line breaks) and invisible formatting characters
    (text direction overrides) become U+FFFD; names over 80 characters are cut.
    """
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c
        for c in text
    )
    return clean if len(clean) <= _LONGEST_NAME else clean[: _LONGEST_NAME - 1] + "…"


def count(value: int | None) -> str:
    """Return ``12,345``."""
    return ABSENT if value is None else f"{value:,}".replace("-", _MINUS)


def decimal(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed number of digits after the point; huge ones in short form."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if abs(value) >= 1e6 or 0 < abs(value) < 10.0**-digits:
        return f"{value:.4g}".replace("-", _MINUS)
    return f"{value:,.{digits}f}".replace("-", _MINUS)


def signed(value: float | None, digits: int = 4) -> str:
    """Return :func:`decimal` with a plus sign where it is positive."""
    text = decimal(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != ABSENT else text


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share of 1 as ``12.3 %``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{100 * value:,.{digits}f}{_NBSP}%".replace("-", _MINUS)


def fraction(part: float | None, whole: float | None) -> float | None:
    """Return ``part / whole``, or None where it is not defined."""
    return part / whole if part is not None and whole else None


def size(value: float | None) -> str:
    """Return bytes with an SI unit: ``512 B``, ``1.21 kB``, ``42.0 MB`` (1 kB = 1000 B)."""
    if value is None:
        return ABSENT
    amount, unit = float(value), 0
    while unit + 1 < len(_SI) and abs(amount) >= 999.5:
        amount, unit = amount / 1000, unit + 1
    return f"{_three(amount) if unit else f'{amount:.0f}'}{_NBSP}{_SI[unit]}"


def seconds(value: float | None) -> str:
    """Return a duration: ``42 ms``, ``3.42 s``, ``5 min 03 s``, ``1 h 20 min``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return f"0{_NBSP}s"
    if value < 0.9995:
        return f"{_three(1000 * value)}{_NBSP}ms"
    if value < 99.95:
        return f"{_three(value)}{_NBSP}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{_NBSP}min {whole % 60:02d}{_NBSP}s"
    return f"{whole // 3600:,}{_NBSP}h {whole % 3600 // 60:02d}{_NBSP}min"


def scalar(value: Scalar) -> str:
    """Return a setting: yes/no, numbers without noise digits, text as :func:`name` leaves it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return name(str(value))


def words(items: tuple[str, ...] | list[str]) -> str:
    """Join names: ``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _three(value: float) -> str:
    """Three significant digits, without an exponent (value below 1000)."""
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"
