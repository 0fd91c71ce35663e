"""Reading a model file whose kind is not known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.models.federation import Federation
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.gbdt import VerticalGBDTClassifier, VerticalGBDTRegressor
from fedcredit.models.linear_share import StoredLinear
from fedcredit.models.logistic import VerticalLogisticRegression
from fedcredit.models.scorecard import VerticalScorecard
from fedcredit.models.scorecard_store import StoredScorecard
from fedcredit.models.shares import StoredForest
from fedcredit.wire import decode

__all__ = ["load_model", "scores_of"]

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        VerticalGBDTClassifier,
        VerticalGBDTRegressor,
        VerticalLogisticRegression,
        VerticalScorecard,
    )
}


def load_model(data: bytes, federation: Federation) -> Any:
    """Read a saved estimator of any kind.

    Raises
    ------
    InputError
        The bytes are no model.
    """
    name = _described(data).get("estimator")
    if not isinstance(name, str) or name not in _KINDS:
        raise InputError(
            "the file holds a model of an unknown kind.",
            step="load model",
            fix="load a file that this release of fedcredit has saved",
        )
    return _KINDS[name].load(data, federation)


def _described(data: bytes) -> dict[str, Any]:
    """Return what a model file says of its estimator, whatever its format."""
    try:
        stored = decode(data)
    except PeerProtocolError:
        stored = None
    if isinstance(stored, StoredLinear):
        return stored.unpack()[1]
    if isinstance(stored, StoredScorecard):
        return {"estimator": stored.estimator}
    return StoredForest.read(data).unpack()[2]


def scores_of(model: Any, frame: FederatedFrame) -> npt.NDArray[np.float64]:
    """Return probabilities of the event, or a regressor's predictions; shape (n,)."""
    if hasattr(model, "predict_proba"):
        scores: npt.NDArray[np.float64] = model.predict_proba(frame)[:, 1]
        return scores
    return np.asarray(model.predict(frame), np.float64)
