"""Reports on the training of joint models: data, tables, figures and a self-contained page."""

from fedcredit.models.report.data import (
    Importance,
    LearningPoint,
    PartyMatch,
    PhaseCost,
    PrivacySettings,
    Provenance,
    SplitSize,
    TrainingReport,
    TreeCost,
    WireCount,
)
from fedcredit.models.report.scores import Scores
from fedcredit.models.report.summary import Summary
from fedcredit.models.report.uplift import Uplift, measure_uplift

__all__ = [
    "Importance",
    "LearningPoint",
    "PartyMatch",
    "PhaseCost",
    "PrivacySettings",
    "Provenance",
    "Scores",
    "SplitSize",
    "Summary",
    "TrainingReport",
    "TreeCost",
    "Uplift",
    "WireCount",
    "measure_uplift",
]
