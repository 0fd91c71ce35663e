"""What crossed the wire: counts per message kind and, on request, every byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from fedcredit.wire.message import Message

__all__ = ["KindCount", "Record", "Transcript"]


@dataclass(frozen=True)
class Record:
    """One message as it crossed the wire."""

    sender: str
    recipient: str
    message: Message
    data: pa.Buffer = field(repr=False)


@dataclass
class KindCount:
    """Messages and bytes of one kind in one direction."""

    messages: int = 0
    bytes: int = 0


class Transcript:
    """Counts messages and bytes per (sender, recipient, kind).

    Parameters
    ----------
    keep : bool, default False
        Keep every message with its bytes in :attr:`records` (tests, audits); otherwise only
        the counts are kept.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self.records: list[Record] = []
        self.counts: dict[tuple[str, str, str], KindCount] = {}

    def record(self, sender: str, recipient: str, message: Message, data: pa.Buffer) -> None:
        """Count one message."""
        self.count(sender, recipient, message.kind, data.size)
        if self._keep:
            self.records.append(Record(sender, recipient, message, data))

    def count(
        self, sender: str, recipient: str, kind: str, n_bytes: int, n_messages: int = 1
    ) -> None:
        """Add to the counts without a message at hand."""
        entry = self.counts.setdefault((sender, recipient, kind), KindCount())
        entry.messages += n_messages
        entry.bytes += n_bytes

    def merge(self, counts: Mapping[tuple[str, str, str], KindCount]) -> None:
        """Add another transcript's counts."""
        for (sender, recipient, kind), entry in counts.items():
            self.count(sender, recipient, kind, entry.bytes, entry.messages)

    def between(self, sender: str | None = None, recipient: str | None = None) -> list[Record]:
        """Return the kept records of a direction."""
        return [
            r
            for r in self.records
            if (sender is None or r.sender == sender)
            and (recipient is None or r.recipient == recipient)
        ]

    def received_by(self, party: str) -> dict[str, KindCount]:
        """Messages and bytes that reached ``party``, per kind."""
        return _by_kind((k, v) for k, v in self.counts.items() if k[1] == party)

    def sent_by(self, party: str) -> dict[str, KindCount]:
        """Messages and bytes that ``party`` sent, per kind."""
        return _by_kind((k, v) for k, v in self.counts.items() if k[0] == party)

    @property
    def total_bytes(self) -> int:
        """All bytes on the wire."""
        return sum(entry.bytes for entry in self.counts.values())

    def __repr__(self) -> str:
        messages = sum(entry.messages for entry in self.counts.values())
        return f"Transcript({messages} messages, {self.total_bytes} bytes)"


def _by_kind(
    items: Iterable[tuple[tuple[str, str, str], KindCount]],
) -> dict[str, KindCount]:
    out: dict[str, KindCount] = {}
    for (_, _, kind), entry in items:
        total = out.setdefault(kind, KindCount())
        total.messages += entry.messages
        total.bytes += entry.bytes
    return out
