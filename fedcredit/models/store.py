"""Where a party keeps what must outlive a session: model shares, checkpoints, aligned orders."""

from __future__ import annotations

from typing import Protocol

__all__ = ["MemoryStore", "Store"]


class Store(Protocol):
    """A party's private key-value store. Keys are ``[a-z0-9._-]+``; a put is atomic."""

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Write or replace an entry."""

    def get(self, kind: str, key: str) -> bytes | None:
        """Return an entry, or None."""

    def delete(self, kind: str, key: str) -> None:
        """Remove an entry if it is there."""

    def keys(self, kind: str) -> list[str]:
        """Return the keys of a kind, sorted."""


class MemoryStore:
    """A store that lives as long as the process (simulations, notebooks, tests)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], bytes] = {}

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Write or replace an entry."""
        self._entries[kind, key] = bytes(data)

    def get(self, kind: str, key: str) -> bytes | None:
        """Return an entry, or None."""
        return self._entries.get((kind, key))

    def delete(self, kind: str, key: str) -> None:
        """Remove an entry if it is there."""
        self._entries.pop((kind, key), None)

    def keys(self, kind: str) -> list[str]:
        """Return the keys of a kind, sorted."""
        return sorted(key for entry_kind, key in self._entries if entry_kind == kind)

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._entries)} entries)"
