"""Federated frames at rest at the platform: what is needed to use an alignment again."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from fedcredit.errors import InputError
from fedcredit.models.alignment import AlignedOrder
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.report import PartyMatch

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation

__all__ = ["load_frame", "save_frame", "stored_frames"]

_KIND = "frame"


def save_frame(frame: FederatedFrame) -> None:
    """Keep everything of a frame but its rows, which its alignment holds."""
    record = {
        "key": frame.key,
        "providers": list(frame.providers),
        "match": [dataclasses.asdict(match) for match in frame.match],
        "labels": {name: list(values) for name, values in frame.labels.items()},
        "categorical": {name: list(values) for name, values in frame.categorical.items()},
    }
    frame.federation.store.put(_KIND, frame.frame_id, json.dumps(record).encode())


def load_frame(federation: Federation, frame_id: str) -> FederatedFrame:
    """Return the frame of an earlier alignment.

    Raises
    ------
    InputError
        The platform keeps no alignment of this id.
    """
    data = federation.store.get(_KIND, frame_id)
    if data is None:
        raise InputError(
            "the platform keeps no alignment of this id.",
            party=federation.platform,
            step="open frame",
            fix="align first",
        )
    record = json.loads(data)
    order = AlignedOrder.load(federation.store, frame_id, party=federation.platform)
    return FederatedFrame(
        federation,
        frame_id=frame_id,
        key=record["key"],
        order=order.rows,
        providers=record["providers"],
        match=[PartyMatch(**match) for match in record["match"]],
        labels=record["labels"],
        categorical=record["categorical"],
    )


def stored_frames(federation: Federation) -> list[str]:
    """Return the ids of the alignments that the platform keeps."""
    return federation.store.keys(_KIND)
