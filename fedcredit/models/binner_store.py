"""A binner at rest at the platform: one Arrow message, no pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from fedcredit.models.at_rest import AtRest, reading_model
from fedcredit.models.binner_tables import BinnedFeature
from fedcredit.wire import Message

__all__ = ["StoredBinner"]


@dataclass(frozen=True, eq=False, repr=False)
class StoredBinner(AtRest, Message, kind="store.binner", version=1, max_bytes=1 << 30):
    """At rest at the platform: counts and groups of every feature, and the binner's arguments.

    ``header`` is JSON.
    """

    _holds = "a binner"
    _step = "load binner"

    header: str

    @classmethod
    def of(cls, features: Sequence[BinnedFeature], extra: dict[str, Any]) -> Self:
        """Collect a binner; ``extra`` is JSON-able."""
        parts = {"features": [feature.to_dict() for feature in features], "extra": extra}
        return cls(json.dumps(parts))

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
