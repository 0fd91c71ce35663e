"""The values a setting can have."""

from __future__ import annotations

__all__ = ["Scalar"]

Scalar = str | int | float | bool | None
