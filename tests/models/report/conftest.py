"""A report with every part, from a seeded population of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from fedcredit.models.report import (
    Importance,
    LearningPoint,
    PartyMatch,
    PhaseCost,
    PrivacySettings,
    Provenance,
    Scores,
    SplitSize,
    TrainingReport,
    TreeCost,
)
from fedcredit.wire import Message, Transcript

PLATFORM = "platform"


@dataclass(frozen=True, eq=False, repr=False)
class Gradients(
    Message, kind="report_test.gradients", reveals="ciphertexts only, under the sender's key"
):
    data: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Sums(Message, kind="report_test.sums", reveals="sums of gradients per bin and node"):
    data: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Silent(Message, kind="report_test.silent"):
    data: bytes


def classifier_scores(n: int = 2000, seed: int = 7, **changes: Any) -> list[Scores]:
    rng = np.random.default_rng(seed)
    out = []
    for split, size in (("train", 2 * n), ("test", n)):
        own, other = rng.normal(size=(2, size))
        risk = 1.0 / (1.0 + np.exp(1.9 - 0.8 * own - 0.7 * other))
        label = (rng.random(size) < risk).astype(int)
        alone = 1.0 / (1.0 + np.exp(1.8 - 0.8 * own))
        for name, score in (("joint", risk), ("alone", alone)):
            out.append(Scores(name, split, label, score, **changes))
    return out


def regressor_scores(n: int = 2000, seed: int = 7) -> list[Scores]:
    rng = np.random.default_rng(seed)
    own, other, noise = rng.normal(size=(3, n))
    target = 40 + 8 * own + 6 * other + 5 * noise
    return [
        Scores("joint", "test", target, 40 + 8 * own + 6 * other),
        Scores("alone", "test", target, 40 + 8 * own),
    ]


def provenance() -> Provenance:
    return Provenance(
        job="job-20260314-01",
        created=datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC),
        fingerprint="sha256:5f1d7a84db00d2fce00b31a7fc73224f",
        seeds={"split": 0, "row sampling": 11},
        environment={"python": "3.11.9", "numpy": "2.4.6"},
    )


def transcript(party: str = "tax") -> Transcript:
    counts = Transcript()
    counts.count(PLATFORM, party, "report_test.gradients", 42_000_000, 60)
    counts.count(party, PLATFORM, "report_test.sums", 310_000, 250)
    counts.count("social", party, "report_test.silent", 999, 3)
    counts.count(PLATFORM, "social", "report_test.unheard_of", 12_345, 2)
    return counts


def full_parts(party: str = "tax", label: str | None = None) -> dict[str, Any]:
    return {
        "match": [
            PartyMatch(PLATFORM, 7012, 3, 9, 0, 0, 3, 7000, 6000),
            PartyMatch(party, 88_120, 40, 61, 17, 205, 57, 88_002, 6000),
            PartyMatch("social", rows=91_000, distinct=90_500, matched=6000),
        ],
        "aligned_rows": 6000,
        "splits": [SplitSize("train", 4000, 620), SplitSize("test", 2000, 305)],
        "parameters": {"n_estimators": 50, "learning_rate": 0.1, "subsample": None, "goss": False},
        "privacy": PrivacySettings(
            hide_membership=True,
            quantisation="packed, 8 + 8 bits, stochastic rounding",
            ciphertext={"scheme": "BFV", "ring degree": 4096},
            floors={"rows per bin": 10},
        ),
        "learning": [
            LearningPoint(t, 0.45 - 0.002 * t, 0.46 - 0.0015 * t + 0.00004 * t * t)
            for t in range(1, 51)
        ],
        "loss_name": "log loss",
        "importance": [
            Importance(PLATFORM, 0, "overdue_months", 820.0, 90),
            Importance(party, 3, label, 510.0, 61),
            Importance("social", 1, "insured_staff", 120.0, 22),
            Importance("social", 2, "arrears", 0.0, 0),
        ],
        "phases": [PhaseCost("align", 1.21, 8_600_000), PhaseCost("train", 74.2, 42_310_000)],
        "trees": [TreeCost(t, 1.4 + 0.1 * (t % 3), 840_000, 6_200) for t in range(1, 51)],
    }


def make(
    task: str = "classification",
    *,
    scores: list[Scores] | None = None,
    party: str = "tax",
    label: str | None = None,
    **changes: Any,
) -> TrainingReport:
    if scores is None:
        scores = classifier_scores() if task == "classification" else regressor_scores()
    values: dict[str, Any] = {
        "model": "Vertical GBDT",
        "platform": PLATFORM,
        "target": "default",
        "provenance": provenance(),
        "transcript": transcript(party),
        "resamples": 100,
        **full_parts(party, label),
        **changes,
    }
    return TrainingReport.build(task=task, scores=scores, **values)


@pytest.fixture(scope="session")
def make_report() -> Callable[..., TrainingReport]:
    return make


@pytest.fixture(scope="session")
def full_report() -> TrainingReport:
    return make()


@pytest.fixture(scope="session")
def score_makers() -> dict[str, Callable[..., list[Scores]]]:
    return {"classification": classifier_scores, "regression": regressor_scores}
