"""How a scorecard comes about: bins, selection, regression, points."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from fedcredit.errors import InputError, PolicyError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.fitting import choose_columns, choose_rows, label_columns, row_values
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.gram import correlations
from fedcredit.models.logistic import VerticalLogisticRegression
from fedcredit.models.scorecard_job import hand_out_card
from fedcredit.models.scorecard_selection import (
    FullFit,
    drop_by_counts,
    drop_by_fit,
    drop_correlated,
    drop_wrong_signs,
)
from fedcredit.models.scorecard_share import Characteristic, ScorecardShare, make_share
from fedcredit.models.selector import FeatureSelector, SelectionTrail
from fedcredit.stats.scorecard_points import PointScale

if TYPE_CHECKING:
    from fedcredit.models.scorecard import VerticalScorecard

__all__ = ["BuiltCard", "CardRows", "build_card", "fit_binner"]

_STEP = "scorecard"
#: Fits of one card at most: coefficients can change sign when others leave. The last one holds
#: all of them to the right sign.
_MAX_FITS = 3


@dataclass(frozen=True, eq=False)
class CardRows:
    """What a card is fitted on.

    Attributes
    ----------
    frame : FederatedFrame
    y, weight : str, array or None
    validation : FederatedFrame or None
    is_frame : bool
        Whether the caller passed the frame, rather than a plain table.
    """

    frame: FederatedFrame
    y: Any = field(repr=False)
    weight: Any = field(repr=False)
    validation: FederatedFrame | None
    is_frame: bool


@dataclass(frozen=True, eq=False)
class BuiltCard:
    """A card that every party keeps its part of."""

    share: ScorecardShare
    regression: VerticalLogisticRegression
    model_id: str
    n_fits: int
    revealed: int


def fit_binner(card: VerticalScorecard, rows: CardRows) -> VerticalBinner:
    """Return the card's binner, fitted on the rows unless it is fitted already.

    Raises
    ------
    InputError
        An argument is unusable.
    FedCreditError
        As :meth:`VerticalBinner.fit`.
    """
    given = card.binner
    if isinstance(given, Mapping):
        given = VerticalBinner(**given)
    elif given is None:
        given = VerticalBinner()
    elif not isinstance(given, VerticalBinner):
        raise InputError(
            "binner is neither a VerticalBinner nor its parameters.",
            step=_STEP,
            fix="pass VerticalBinner(...), a mapping of its parameters, or None",
        )
    if given.__sklearn_is_fitted__():
        return given
    binner: VerticalBinner = clone(given)
    chosen = binner.features if card.features is None else card.features
    if rows.is_frame and isinstance(rows.weight, str):
        # A column of weights is no feature; the label the binner finds by itself.
        frame = rows.frame
        jobs = choose_rows(frame, rows.y, rows.weight, None, fraction=None, stratify=False, seed=0)
        platform = frame.federation.platform
        own = {f"{platform}.{name}" for name in label_columns(jobs, rows.y, rows.weight)}
        chosen = [name for name in frame.columns if name not in own] if chosen is None else chosen
    return binner.set_params(features=chosen).fit(rows.frame, rows.y)


def build_card(card: VerticalScorecard, rows: CardRows) -> BuiltCard:
    """Select, regress and scale on a fitted binner; ``card.selection_`` is set in any case.

    Raises
    ------
    InputError
        A parameter cannot be used, or no feature is left.
    FedCreditError
        A provider refuses, or cannot be reached.
    """
    selector = _selector(card)
    scale = PointScale(float(card.pdo), float(card.base_score), float(card.base_odds))
    if card.sign_constraints not in ("auto", None):
        raise InputError(
            "sign_constraints is unknown.", step=_STEP, fix='use "auto", or None for no constraint'
        )
    binner = card.binner_
    trail = SelectionTrail(_start(card, rows))
    information = binner.iv()
    iv = information["iv"].to_dict()
    try:
        keep = set(_named(card.keep, rows))
        _by_counts(trail, selector, binner, rows, keep)
        _require_features(trail)
        if selector.needs_correlations and len(trail.kept) > 1:
            _by_correlations(trail, selector, binner, rows, iv, keep)
        regression, fit, n_fits, revealed = _regress(card, trail, selector, rows, iv, keep)
    finally:
        table = trail.frame()
        table["iv"] = [iv[name] for name in table.index]
        card.selection_ = table
    share = make_share(
        [_characteristic(binner, fit, regression, k) for k in range(len(fit.names))],
        float(regression.share_.intercept),
        scale,
        spread_base=card.spread_base,
        rounding=card.rounding,
    )
    model_id = secrets.token_hex(8)
    platform = binner.platform_
    parties = dict.fromkeys(name.partition(".")[0] for name in fit.names)
    hand_out_card(
        rows.frame.federation,
        share,
        model_id=model_id,
        frame_id=rows.frame.frame_id,
        regression_id=regression.model_id_,
        binner_id=binner.binner_id_,
        providers=[party for party in parties if party != platform],
    )
    return BuiltCard(share, regression, model_id, n_fits, revealed)


def _selector(card: VerticalScorecard) -> FeatureSelector:
    given = card.selector
    if given is None:
        given = FeatureSelector()
    elif isinstance(given, Mapping):
        given = FeatureSelector(**given)
    elif not isinstance(given, FeatureSelector):
        raise InputError(
            "selector is neither a FeatureSelector nor its parameters.",
            step=_STEP,
            fix="pass FeatureSelector(...), a mapping of its parameters, or None",
        )
    given.check()
    return given


def _named(names: Sequence[str], rows: CardRows) -> list[str]:
    """Return names with their party in front."""
    use = choose_columns(rows.frame, names, None).use or {}
    return [f"{party}.{label}" for party, labels in use.items() for label in labels]


def _start(card: VerticalScorecard, rows: CardRows) -> list[str]:
    names = card.binner_.names_
    if card.features is None:
        return names
    wanted = set(_named(card.features, rows))
    unknown = sorted(wanted - set(names))
    if unknown:
        raise InputError(
            f"the binner has no features {', '.join(unknown)}.",
            step=_STEP,
            fix="bin them, or leave them out of features",
        )
    return [name for name in names if name in wanted]


def _require_features(trail: SelectionTrail) -> None:
    if not trail.kept:
        raise InputError(
            "no feature is left after selection.",
            step="select features",
            fix="see selection_ for what dropped each, and loosen the FeatureSelector",
        )


def _by_counts(
    trail: SelectionTrail,
    selector: FeatureSelector,
    binner: VerticalBinner,
    rows: CardRows,
    keep: Collection[str],
) -> None:
    information = binner.iv()
    psi: dict[str, float] | None = None
    if selector.max_psi is not None:
        if rows.validation is None:
            raise InputError(
                "the stability step compares with validation rows, and there are none.",
                step="select features: stability",
                fix="pass fit(..., validation=frame), or FeatureSelector(max_psi=None)",
            )
        psi = binner.stability(rows.validation)["psi"].to_dict()
    drop_by_counts(
        trail,
        selector,
        usable=set(binner.usable()),
        iv=information["iv"].to_dict(),
        missing=information["missing share"].to_dict(),
        psi=psi,
        keep=keep,
    )


def _by_correlations(
    trail: SelectionTrail,
    selector: FeatureSelector,
    binner: VerticalBinner,
    rows: CardRows,
    iv: Mapping[str, float],
    keep: Collection[str],
) -> None:
    names = trail.kept
    try:
        found = correlations(rows.frame, features=names, binner=binner)
    except PolicyError as error:
        if error.step and error.step.startswith("correlations"):
            error.fix = (
                "use FeatureSelector(max_correlation=None, max_vif=None), leave that provider's "
                "features out, or ask it to allow release_correlations"
            )
        raise
    drop_correlated(
        trail,
        selector,
        names=names,
        correlation=np.clip(found.loc[names, names].to_numpy(np.float64), -1.0, 1.0),
        iv=iv,
        keep=keep,
    )


def _regress(
    card: VerticalScorecard,
    trail: SelectionTrail,
    selector: FeatureSelector,
    rows: CardRows,
    iv: Mapping[str, float],
    keep: Collection[str],
) -> tuple[VerticalLogisticRegression, FullFit, int, int]:
    """Fit, drop by the fit, and fit again while something was dropped; count fits and reveals."""
    binner = card.binner_
    sign = 1 if binner.convention == "bad_over_good" else -1
    held: dict[str, int] = {}
    revealed = 0
    for number in range(1, _MAX_FITS + 1):
        names = trail.kept
        if number == _MAX_FITS and card.sign_constraints == "auto":
            held = {name: sign for name in names if name not in keep}
        signs = {name: value for name, value in held.items() if name in names}
        regression, fit = _fit(card, rows, names, signs)
        revealed += regression.revealed_
        if number == _MAX_FITS:
            break
        if card.sign_constraints == "auto":
            drop_wrong_signs(trail, fit, sign=sign, iv=iv, keep=keep)
        if number == 1:
            drop_by_fit(trail, selector, fit, keep=keep)
            if card.sign_constraints == "auto":
                # What is left may have turned while features left stepwise.
                drop_wrong_signs(trail, fit, sign=sign, iv=iv, keep=keep)
        _require_features(trail)
        unknown = [name for name, value in zip(names, fit.coef, strict=True) if np.isnan(value)]
        hold = card.sign_constraints == "auto" and not held and bool(unknown)
        if hold:
            held = dict.fromkeys(unknown, sign)
        if trail.kept == names and not hold:
            break
    return regression, fit, number, revealed


def _fit(
    card: VerticalScorecard, rows: CardRows, names: Sequence[str], signs: Mapping[str, int]
) -> tuple[VerticalLogisticRegression, FullFit]:
    binner = card.binner_
    labels = row_values(rows.frame, rows.y, "y")
    regression = VerticalLogisticRegression(
        binner=binner,
        features=list(names),
        C=card.C,
        l1_ratio=card.l1_ratio,
        reveal_predictor=card.reveal_predictor,
        polish_steps=card.polish_steps,
        max_reveals=card.max_reveals,
        sign_constraints=dict(signs) or None,
    ).fit(rows.frame, (labels == binner.event_).astype(np.int64), rows.weight)
    share = regression.share_
    place = {name: k for k, name in enumerate(share.names)}
    order = [place[name] for name in names]
    covariance = share.covariance
    if covariance is not None:
        chosen = [*order, len(place)]
        covariance = covariance[np.ix_(chosen, chosen)]
    return regression, FullFit(tuple(names), share.coef[order], covariance)


def _characteristic(
    binner: VerticalBinner, fit: FullFit, regression: VerticalLogisticRegression, k: int
) -> Characteristic:
    name = fit.names[k]
    woe = binner.woe_table(name)
    texts = np.full(len(woe.count), "", object)
    texts[woe.count > 0] = binner.binning_table(name)["Bin"].to_numpy(object)[:-1]
    share = regression.share_
    error = float(share.standard_error[share.names.index(name)])
    return Characteristic(
        name=name,
        bins=tuple(str(text) for text in texts),
        count=woe.count,
        event=woe.event,
        woe=woe.woe,
        coef=None if np.isnan(fit.coef[k]) else float(fit.coef[k]),
        standard_error=None if np.isnan(error) else error,
        points=None,
    )
