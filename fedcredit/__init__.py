"""fedcredit: privacy-preserving joint credit modelling.

Data providers and a credit-service platform train credit models together without showing each
other their data: private set intersection aligns the rows, homomorphic encryption sums gradients,
oblivious transfer moves the rows down the trees. Institutions ask for scores and yes-or-no answers
about an enterprise that agreed, encrypted for them alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fedcredit import datasets, errors
    from fedcredit.governance.catalog import Catalog
    from fedcredit.governance.enterprise import Enterprise
    from fedcredit.models.binner import VerticalBinner
    from fedcredit.models.federation import Federation
    from fedcredit.models.frame import FederatedFrame
    from fedcredit.models.gbdt import VerticalGBDTClassifier, VerticalGBDTRegressor
    from fedcredit.models.logistic import VerticalLogisticRegression
    from fedcredit.models.policy import ProviderPolicy
    from fedcredit.models.scorecard import VerticalScorecard
    from fedcredit.models.scoring.institution import Institution
    from fedcredit.models.selector import FeatureSelector
    from fedcredit.models.simulate import simulate
    from fedcredit.node.connect import connect

__all__ = [
    "Catalog",
    "Enterprise",
    "FeatureSelector",
    "FederatedFrame",
    "Federation",
    "Institution",
    "ProviderPolicy",
    "VerticalBinner",
    "VerticalGBDTClassifier",
    "VerticalGBDTRegressor",
    "VerticalLogisticRegression",
    "VerticalScorecard",
    "__version__",
    "connect",
    "datasets",
    "errors",
    "simulate",
]

# Imported when first used: a hub or a command needs neither scikit-learn nor SEAL.
_HOMES = {
    "Catalog": "fedcredit.governance.catalog",
    "Enterprise": "fedcredit.governance.enterprise",
    "FeatureSelector": "fedcredit.models.selector",
    "FederatedFrame": "fedcredit.models.frame",
    "Federation": "fedcredit.models.federation",
    "Institution": "fedcredit.models.scoring.institution",
    "ProviderPolicy": "fedcredit.models.policy",
    "VerticalBinner": "fedcredit.models.binner",
    "VerticalGBDTClassifier": "fedcredit.models.gbdt",
    "VerticalGBDTRegressor": "fedcredit.models.gbdt",
    "VerticalLogisticRegression": "fedcredit.models.logistic",
    "VerticalScorecard": "fedcredit.models.scorecard",
    "connect": "fedcredit.node.connect",
    "simulate": "fedcredit.models.simulate",
}


def __getattr__(name: str) -> Any:
    if name in ("datasets", "errors"):
        return import_module(f"fedcredit.{name}")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module 'fedcredit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
