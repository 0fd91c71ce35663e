"""A binner at rest at the platform: one Arrow message, no pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.models.binner_tables import BinnedFeature
from fedcredit.models.shares import reading_model
from fedcredit.wire import Message, decode, encode

__all__ = ["StoredBinner"]


@dataclass(frozen=True, eq=False, repr=False)
class StoredBinner(Message, kind="store.binner", version=1, max_bytes=1 << 30):
    """At rest at the platform: counts and groups of every feature, and the binner's arguments.

    ``header`` is JSON.
    """

    header: str

    @classmethod
    def of(cls, features: Sequence[BinnedFeature], extra: dict[str, Any]) -> Self:
        """Collect a binner; ``extra`` is JSON-able."""
        parts = {"features": [feature.to_dict() for feature in features], "extra": extra}
        return cls(json.dumps(parts))

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Decode a stored binner.

        Raises
        ------
        InputError
            The bytes are not one.
        """
        try:
            stored = decode(data)
        except PeerProtocolError as error:
            raise InputError(
                f"the file cannot be read: {error.reason}",
                step="load binner",
                fix="load a file that this release of fedcredit has saved",
            ) from None
        if not isinstance(stored, cls):
            raise InputError(
                "the file holds something other than a binner.",
                step="load binner",
                fix="load a file that VerticalBinner.save wrote",
            )
        return stored

    def to_bytes(self) -> bytes:
        """Encode."""
        data: bytes = encode(self).to_pybytes()
        return data

    def unpack(self) -> tuple[list[BinnedFeature], dict[str, Any]]:
        """Rebuild the features and the extra part.

        Raises
        ------
        InputError
            The header is not one that :meth:`of` made.
        """
        with reading_model():
            header = json.loads(self.header)
            features = [BinnedFeature.from_dict(item) for item in header["features"]]
            return features, dict(header["extra"])
