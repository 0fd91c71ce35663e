"""A scorecard at rest at the platform: one Arrow message, no pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fedcredit.models.at_rest import (
    AtRest,
    check_class,
    describe,
    json_able,
    read_bytes,
    reading_model,
    restore,
    write_bytes,
)
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.binner_store import StoredBinner
from fedcredit.models.federation import Federation
from fedcredit.models.scorecard_share import ScorecardShare
from fedcredit.models.selector import FeatureSelector
from fedcredit.stats.scorecard_points import Calibration
from fedcredit.wire import Message, U8x1

__all__ = ["StoredCard", "StoredScorecard"]

_MODEL = "model"
#: Marks an argument that was an estimator, not a mapping of its parameters.
_OBJECT = "estimator"


@dataclass(frozen=True, eq=False, repr=False)
class StoredScorecard(AtRest, Message, kind="store.scorecard", version=1, max_bytes=1 << 30):
    """At rest at the platform: ``header`` is JSON, ``binner`` a stored binner."""

    _holds = "a scorecard"
    _step = "load scorecard"

    header: str
    binner: U8x1

    @property
    def estimator(self) -> str:
        """Name of the class that saved it."""
        with reading_model():
            return str(json.loads(self.header)["estimator"])


class StoredCard(BaseEstimator):
    """Saving, loading and copying of a scorecard; a part of :class:`VerticalScorecard`."""

    binner_: VerticalBinner
    scoring_binner_: VerticalBinner
    share_: ScorecardShare
    selection_: pd.DataFrame
    calibration_: Calibration | None
    classes_: Any
    event_: Any
    platform_: str
    model_id_: str
    regression_id_: str
    n_features_in_: int
    n_fits_: int
    training_: Any
    federation_: Federation

    def to_bytes(self) -> bytes:
        """Encode the platform's share; every provider keeps its own."""
        check_is_fitted(self)
        header = {
            **describe(self),
            "arguments": _arguments(self),
            "share": self.share_.to_dict(),
            "selection": json.loads(self.selection_.reset_index().to_json(orient="split")),
            "calibration": self.calibration_ and self.calibration_.to_dict(),
            "event": json_able(self.event_),
            "platform": self.platform_,
            "model_id": self.model_id_,
            "regression_id": self.regression_id_,
            "n_fits": self.n_fits_,
        }
        binner = np.frombuffer(self.scoring_binner_.to_bytes(), np.uint8)
        return StoredScorecard(json.dumps(header), binner).to_bytes()

    def save(self, path: str | Path) -> None:
        """Write the platform's share of the card.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        write_bytes(path, self.to_bytes(), step="save scorecard")

    @classmethod
    def load(cls, source: str | Path | bytes, federation: Federation | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        source : path or bytes
        federation : Federation, optional
            Whose providers hold the other parts; scoring takes it from the frame.

        Raises
        ------
        InputError
            The file is not a scorecard of this release.
        StorageError
            The file cannot be read.
        """
        stored = StoredScorecard.read(read_bytes(source, step="load scorecard"))
        check_class(cls, stored.estimator, step="load scorecard")
        binner = stored.binner.tobytes()
        with reading_model():
            header = json.loads(stored.header)
            card = cls(**_rebuilt(header["arguments"]))
            restore(card, header)
            card.event_ = card.classes_[header["classes"].index(header["event"])]
            card.platform_ = str(header["platform"])
            card.model_id_ = str(header["model_id"])
            card.regression_id_ = str(header["regression_id"])
            card.n_fits_ = int(header["n_fits"])
            part = header["selection"]
            card.selection_ = _selection(part["data"], part["columns"])
            known = header["calibration"]
            card.calibration_ = None if known is None else Calibration.from_dict(known)
            share = ScorecardShare.from_dict(header["share"])
        card.scoring_binner_ = VerticalBinner.load(binner)
        card.binner_ = VerticalBinner.load(binner, federation)
        if federation is not None:
            card.federation_ = federation
        card.share_ = share
        return card

    def keep_share(self) -> None:
        """Put the card into the platform's own store, under its name."""
        self.federation_.store.put(_MODEL, self.model_id_, self.to_bytes())

    def fingerprint(self) -> str:
        """SHA-256 over what determines the points at the platform, in hexadecimal.

        Bins, weights, coefficients and scale; neither the card's name nor its calibration. The
        same tables and parameters give the same fingerprint up to the last bits of coefficients
        that were found under encryption.
        """
        check_is_fitted(self)
        names = {c.name for c in self.share_.of(self.platform_)}
        features, _ = StoredBinner.read(self.scoring_binner_.to_bytes()).unpack()
        own = [feature.to_dict() for feature in features if feature.name in names]
        parts = {"share": self.share_.to_dict(), "own": own}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        # Copies hold the card, not the tables and rows that it was fitted on.
        state: dict[str, Any] = dict(super().__getstate__())
        for name in ("federation_", "training_", "regression_"):
            state.pop(name, None)
        return state


def _arguments(card: Any) -> dict[str, Any]:
    """Return an estimator's arguments as JSON values; estimators among them by their own."""
    made: dict[str, Any] = {}
    for name, value in card.get_params(deep=False).items():
        if isinstance(value, VerticalBinner | FeatureSelector):
            made[name] = {_OBJECT: json_able(value.get_params(deep=False))}
        else:
            made[name] = json_able(value)
    return made


def _rebuilt(arguments: dict[str, Any]) -> dict[str, Any]:
    made = dict(arguments)
    for name, kind in (("binner", VerticalBinner), ("selector", FeatureSelector)):
        value = made.get(name)
        if isinstance(value, dict) and set(value) == {_OBJECT}:
            made[name] = kind(**value[_OBJECT])
    return made


def _selection(rows: list[list[Any]], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns).set_index("feature")
    numbers = ["value", "threshold", "iv"]
    table[numbers] = table[numbers].astype(np.float64)
    table["kept"] = table["kept"].astype(np.bool_)
    return table
