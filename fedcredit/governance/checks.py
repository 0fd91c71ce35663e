"""The result of a verification: what was checked, and what came out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check", "Report"]


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes
    ----------
    name : str
        A short fixed word, for scripts.
    ok : bool
    text : str
        What was found, in one sentence.
    """

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Report:
    """Everything that was checked.

    Attributes
    ----------
    checks : tuple of Check
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that do not hold."""
        return tuple(check.name for check in self.checks if not check.ok)

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values."""
        checks = [{"name": c.name, "ok": c.ok, "text": c.text} for c in self.checks]
        return {"ok": self.ok, "checks": checks}
