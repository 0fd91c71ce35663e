"""What the binary classifiers share: everything that follows from their log-odds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import ClassifierMixin

from fedcredit.models.labels import named_columns

__all__ = ["BinaryClassifier"]

Floats = npt.NDArray[np.float64]


class BinaryClassifier(ClassifierMixin):
    """Predictions of an estimator that has ``classes_`` and a ``decision_function``."""

    classes_: npt.NDArray[Any]

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of both classes, shape (n, 2); see :meth:`decision_function`."""
        p = expit(self.decision_function(X))
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the more probable class of each row; see :meth:`decision_function`."""
        codes = (self.decision_function(X) > 0).astype(np.int64)
        return self.classes_[codes]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy, as in scikit-learn; ``y`` and weights may name columns of the platform."""
        return float(super().score(X, *named_columns(X, y, sample_weight)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
