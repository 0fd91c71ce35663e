"""From a fitted tree model and its federation to a training report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import clone

from fedcredit.crypto.paillier_profile import PaillierProfile
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.report import (
    Importance,
    LearningPoint,
    PrivacySettings,
    Provenance,
    Scores,
    SplitSize,
    TrainingReport,
)
from fedcredit.protocols.forest import PAIR_BITS
from fedcredit.protocols.sum_schemes import AnyProfile

if TYPE_CHECKING:
    from fedcredit.models.gbdt import VerticalGBDTClassifier, VerticalGBDTRegressor

    Model: TypeAlias = VerticalGBDTClassifier | VerticalGBDTRegressor

__all__ = ["build_report"]


def build_report(
    model: Model,
    test: FederatedFrame | None = None,
    *,
    alone: Model | None = None,
    compare: bool = True,
    created: datetime | None = None,
    title: str = "Joint model training report",
    resamples: int = 1000,
) -> TrainingReport:
    """Measure a fitted model and collect everything about its training.

    Parameters
    ----------
    model : fitted estimator
    test : FederatedFrame, optional
        Rows that the model has not seen. They are scored jointly, which is a session of its own.
    alone : fitted estimator, optional
        The platform's own model to compare with; fitted here with the same parameters on the
        platform's columns if it is not given.
    compare : bool, default True
        Whether to compare with the platform alone at all.
    created : datetime, optional
        With time zone; now by default.
    title : str
    resamples : int
        Bootstrap resamples of the confidence intervals.

    Returns
    -------
    TrainingReport
    """
    federation = model.federation_
    rows = getattr(model, "train_rows_", None)
    if compare and alone is None and rows is not None and model.providers_:
        alone = _fit_alone(model)
    scores = _scores(model, model, "joint", test)
    if alone is not None:
        scores += _scores(alone, model, "alone", test)
    frame = test if test is not None else (rows.frame if rows is not None else None)
    return TrainingReport.build(
        model=f"Vertical GBDT {'classifier' if model._objective == 'binary' else 'regressor'}",
        task="classification" if model._objective == "binary" else "regression",
        platform=federation.platform,
        target=getattr(model, "target_", "y"),
        title=title,
        provenance=Provenance(
            job=model.model_id_,
            created=created or datetime.now(UTC),
            fingerprint=model.fingerprint(),
            seeds={"random_state": model.params_.seed},
        ),
        scores=scores,
        transcript=federation.transcript if federation.transcript.counts else None,
        resamples=resamples,
        match=frame.match if frame is not None else (),
        aligned_rows=len(frame.order) if frame is not None else None,
        splits=_splits(model, test),
        parameters=_parameters(model),
        privacy=_privacy(model) if model.providers_ else None,
        learning=[
            LearningPoint(i + 1, loss, valid)
            for i, (loss, valid) in enumerate(
                zip(model.state_.train_loss, _padded(model), strict=True)
            )
        ],
        loss_name="log loss" if model._objective == "binary" else "mean squared error",
        importance=_importance(model),
        # The platform's own model, which it is compared with, has sessions with nobody.
        phases=tuple(p for p in federation.phases if p.bytes or not federation.providers),
        trees=tuple(model.tree_costs_),
    )


def _padded(model: Model) -> list[float | None]:
    valid: list[float | None] = list(model.state_.valid_loss)
    return valid or [None] * len(model.state_.train_loss)


def _fit_alone(model: Model) -> Model:
    """Fit the platform's own model: same parameters, rows and weights, own columns only."""
    rows = model.train_rows_
    own = [f"{model.federation_.platform}.{coder.name}" for coder in model.own_.coders]
    if not own:
        return None  # type: ignore[return-value]
    signs = {n: s for n, s in (model.monotone_constraints or {}).items() if n in own}
    alone = clone(model).set_params(
        features=own, monotone_constraints=signs or None, early_stopping_rounds=None
    )
    train = rows.frame.take(rows.is_train)
    weight = None if rows.weight is None else rows.weight[rows.is_train]
    return alone.fit(train, rows.y[rows.is_train], sample_weight=weight)


def _labels(model: Model, test: FederatedFrame) -> npt.NDArray[Any]:
    return np.asarray(test.column(model.target_))


def _scores(model: Model, joint: Model, name: str, test: FederatedFrame | None) -> list[Scores]:
    """Score train, validation and test rows; the label column is the joint model's."""
    out = []
    rows = getattr(model, "train_rows_", None)
    link = expit if model._objective == "binary" else np.asarray
    if rows is not None and len(model.state_.score):
        for split, mask in (("train", rows.is_train), ("valid", ~rows.is_train)):
            if mask.any():
                weight = None if rows.weight is None else rows.weight[mask]
                truth = model._target(rows.y)[mask]
                out.append(Scores(name, split, truth, link(model.state_.score[mask]), weight))  # type: ignore[arg-type]
    if test is not None:
        truth = model._target(_labels(joint, test))
        out.append(Scores(name, "test", truth, link(model._raw(test))))  # type: ignore[arg-type]
    return out


def _splits(model: Model, test: FederatedFrame | None) -> list[SplitSize]:
    rows = getattr(model, "train_rows_", None)
    out = []
    binary = model._objective == "binary"
    if rows is not None:
        truth = model._target(rows.y)
        for name, mask in (("train", rows.is_train), ("validation", ~rows.is_train)):
            if mask.any():
                events = int(truth[mask].sum()) if binary else None
                out.append(SplitSize(name, int(mask.sum()), events))
    if test is not None:
        truth = model._target(_labels(model, test))
        out.append(SplitSize("test", len(test), int(truth.sum()) if binary else None))
    return out


def _parameters(model: Model) -> dict[str, Any]:
    shown = {}
    for name, value in model.get_params().items():
        if isinstance(value, str | int | float | bool):
            shown[name] = value
        elif value is not None and len(value):
            shown[name] = f"{len(value)} given"
    shown["trees kept"] = model.n_estimators_
    return shown


def _privacy(model: Model) -> PrivacySettings:
    params = model.params_
    rows = getattr(model, "train_rows_", None)
    n = len(rows.frame) if rows is not None else 1
    profile = params.profile(n)
    bins = sum(
        info.n_bins
        for info, owner in zip(model.pooled_.infos, model.pooled_.owner, strict=True)
        if owner
    )
    nodes = sum(int((tree.feature >= 0).sum()) for tree in model.state_.trees)
    vectors = 2 if params.precision == "exact" else 1
    widths = (
        "17 bits each"
        if params.precision == "exact"
        else f"{params.gradient_bits} bits each, packed at bit {PAIR_BITS}"
    )
    return PrivacySettings(
        hide_membership=params.hide_membership,
        quantisation=f"{params.precision}: gradient and hessian of {widths}",
        ciphertext=_ciphertext(profile, max(1, bins * nodes * vectors)),
        floors={"training rows per child": model.min_child_rows},
        other={"alignment": "private set intersection", "directions": _directions(model)},
    )


def _ciphertext(profile: AnyProfile, returned_values: int) -> dict[str, str | int]:
    if isinstance(profile, PaillierProfile):
        return {
            "scheme": "Paillier (phe)",
            "modulus": f"{profile.key_bits} bits",
            "sums returned modulo": f"2^{profile.plain_bits}",
            "statistical distance": "0",
        }
    distance = profile.statistical_distance()
    union = profile.statistical_distance(returned_values)
    return {
        "scheme": "BFV (Microsoft SEAL)",
        "ring degree": profile.degree,
        "coefficient modulus": f"{profile.primes} primes of 31 bits",
        "security": "128 bits (homomorphic encryption standard)",
        "plain modulus": f"2^{profile.plain_bits}",
        "rows per ciphertext": profile.block,
        "noise flood": f"2^{profile.flood_bits}",
        "statistical distance per returned value": f"2^{distance:.1f}",
        "statistical distance over the job": f"2^{union:.1f}",
    }


def _directions(model: Model) -> str:
    if model.params_.hide_membership:
        return "oblivious transfer, 1 of 16 (SoftSpokenOT)"
    return "in the clear (membership open)"


def _importance(model: Model) -> list[Importance]:
    table = model.importance()
    platform = model.federation_.platform
    local = model.pooled_.local
    out = []
    for place, (label, row) in enumerate(table.iterrows()):
        party = str(row["party"])
        name = str(label).removeprefix(f"{party}.")
        hidden = party != platform and name == f"f{local[place] + 1}"
        out.append(
            Importance(
                party=party,
                feature=local[place] + 1,
                label=None if hidden else name,
                gain=float(row["gain"]),
                splits=int(row["splits"]),
            )
        )
    return out
