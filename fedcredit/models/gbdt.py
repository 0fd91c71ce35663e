"""Gradient-boosted trees over a federated frame, as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin

from fedcredit.errors import InputError
from fedcredit.models.classifier import BinaryClassifier
from fedcredit.models.gbdt_base import BaseVerticalGBDT
from fedcredit.models.labels import binary_target, named_columns

__all__ = ["VerticalGBDTClassifier", "VerticalGBDTRegressor"]

Floats = npt.NDArray[np.float64]


class VerticalGBDTClassifier(BinaryClassifier, BaseVerticalGBDT):
    """Binary classification by gradient-boosted trees over a federated frame.

    On equal bins and gradients the trees are those of LightGBM on pooled data.

    Parameters
    ----------
    n_estimators : int, default 100
        Trees.
    learning_rate : float, default 0.1
    max_depth : int, default 5
        Levels of splits, at most 8.
    max_bins : int, default 32
        Bins per feature, the missing bin included.
    min_child_samples : int, default 20
        Smallest number of rows in a child as LightGBM counts them, estimated from hessians.
    min_child_rows : int, default 10
        Smallest true number of training rows in a child, a privacy floor: a split that turns out
        to leave fewer is undone. 0 grows LightGBM's trees exactly.
    min_child_weight : float, default 1e-3
        Smallest sum of hessians in a child.
    min_split_gain, reg_lambda : float, default 0.0
    subsample, colsample_bytree : float, default 1.0
        Share of rows and of features drawn for each tree.
    features : sequence of str, optional
        ``"party.column"`` to use; all by default.
    categorical_features : sequence of str
        Numeric columns of the platform that are categories. Providers declare their own.
    monotone_constraints : mapping of ``"party.column"`` to -1 or 1, optional
    early_stopping_rounds : int, optional
        Stop after so many trees without a smaller validation loss.
    validation_fraction : float, default 0.1
        Share of the rows held out for early stopping.
    hide_membership : bool, default True
        Keep from the providers which rows are in a node. False is faster and shows them.
    precision : {"packed", "exact", "high"}
        Encrypted-sum profile: few-bit gradients, 17-bit gradients, or the larger ring with the
        smallest statistical distance.
    backend : {"bfv", "paillier"}
        Homomorphic scheme of the sums. Paillier is a slow reference for small data: about 2.5 ms
        and half a kilobyte for every row of a tree and every node that is summed, twice that with
        ``precision="exact"``. It gives the same trees, takes neither ``precision="high"`` nor
        ``block``, and needs the extra ``paillier``.
    gradient_bits : int, default 8
        Bits of a packed gradient, with stochastic rounding.
    block : int, optional
        Rows per ciphertext. A larger block means fewer bytes and more provider work; by default
        the cost model chooses.
    mbit_per_second : float, default 1000.0
        Speed of the platform's link, for the cost model.
    random_state : int, optional

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
    n_estimators_ : int
        Trees kept.
    feature_importances_ : ndarray
    plan_ : list of TreeEstimate
        What a tree was expected to cost by block size; ``params_.block`` is what was chosen.
    model_id_ : str
        Names the model at every party.

    Examples
    --------
    >>> import fedcredit as fc
    >>> population = fc.datasets.make_sme_population(2_000, seed=1)
    >>> fed = fc.simulate(platform=population.platform, tax=population.tax)
    >>> frame = fed.align(on="uscc")
    >>> model = fc.VerticalGBDTClassifier(n_estimators=2, max_depth=2, random_state=0)
    >>> model.fit(frame, y="default").n_estimators_
    2
    """

    _objective = "binary"

    def _target(self, y: npt.NDArray[Any]) -> Floats:
        self.classes_, codes = binary_target(y)
        return codes

    def decision_function(self, X: Any) -> Floats:
        """Log odds of the second class; shape (n,)."""
        return self._raw(X)


class VerticalGBDTRegressor(RegressorMixin, BaseVerticalGBDT):
    """Regression with squared error by gradient-boosted trees over a federated frame.

    Parameters and attributes are those of :class:`VerticalGBDTClassifier`.
    """

    _objective = "regression"

    def _target(self, y: npt.NDArray[Any]) -> Floats:
        try:
            target = y.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(
                "the target is not numeric.", step="train", fix="convert it to numbers"
            ) from None
        if not np.isfinite(target).all():
            raise InputError(
                "the target has missing or infinite values.",
                step="train",
                fix="drop the rows without a target",
            )
        return target

    def predict(self, X: Any) -> Floats:
        """Return the predicted values; shape (n,)."""
        return self._raw(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R squared, as in scikit-learn; ``y`` and weights may name columns of the platform."""
        return float(super().score(X, *named_columns(X, y, sample_weight)))
