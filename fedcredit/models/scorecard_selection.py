"""The steps that select a scorecard's features, on what the platform knows of them.

Every step works on the features that are still there, writes what it drops into the trail, and
leaves those that the caller wants to keep.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from fedcredit.errors import InputError
from fedcredit.models.selector import FeatureSelector, SelectionTrail
from fedcredit.stats.selection import correlation_filter, stepwise, submodel, vif

__all__ = ["FullFit", "drop_by_counts", "drop_by_fit", "drop_correlated", "drop_wrong_signs"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FullFit:
    """What the platform knows of the regression on all features that were left.

    Attributes
    ----------
    names : tuple of str
    coef : ndarray of float64, shape (d,)
        NaN where the provider does not release it.
    covariance : ndarray of float64, shape (d + 1, d + 1), or None
        The intercept last; None unless all parties release theirs.
    """

    names: tuple[str, ...]
    coef: Floats = field(repr=False)
    covariance: Floats | None = field(repr=False)


def drop_by_counts(
    trail: SelectionTrail,
    selector: FeatureSelector,
    *,
    usable: Collection[str],
    iv: Mapping[str, float],
    missing: Mapping[str, float],
    psi: Mapping[str, float] | None,
    keep: Collection[str] = (),
) -> None:
    """Drop features by what counts per bin tell: one bin only, missing, value, stability.

    Parameters
    ----------
    trail : SelectionTrail
    selector : FeatureSelector
    usable : collection of str
        Features with more than one bin. The others cannot be kept by any wish.
    iv, missing : mapping of str to float
        Information value and share of missing rows of the usable features.
    psi : mapping of str to float, or None
        Stability index against the validation rows; None leaves that step out.
    keep : collection of str
        Features that these steps do not drop.
    """
    for name in trail.kept:
        if name not in usable:
            trail.drop(name, "binning", "bins", 1.0, 2.0)
    steps = [
        ("missing", "missing share", missing, None, selector.max_missing),
        ("iv", "iv", iv, selector.min_iv, selector.max_iv),
        ("stability", "psi", psi or {}, None, selector.max_psi if psi is not None else None),
    ]
    for step, statistic, values, least, most in steps:
        for name in trail.kept:
            value = values.get(name, np.nan)
            limit = next(
                (
                    bound
                    for bound, beyond in ((least, -1.0), (most, 1.0))
                    if bound is not None and beyond * (value - bound) > 0
                ),
                None,
            )
            if limit is None:
                continue
            if name in keep:
                trail.note(name, step, statistic, value, limit)
            else:
                trail.drop(name, step, statistic, value, limit)


def drop_correlated(
    trail: SelectionTrail,
    selector: FeatureSelector,
    *,
    names: Sequence[str],
    correlation: Floats,
    iv: Mapping[str, float],
    keep: Collection[str] = (),
) -> None:
    """Drop features by the correlations of their weights of evidence.

    Parameters
    ----------
    trail : SelectionTrail
    selector : FeatureSelector
    names : sequence of str
        The features that are left, in the order of the matrix.
    correlation : ndarray of float64, shape (d, d)
    iv : mapping of str to float
        Of two features the one of higher value stays.
    keep : collection of str
        Features that stay whatever their value; both of a pair if both are named here.
    """
    value = np.array([iv[name] for name in names])
    wanted = np.array([name in keep for name in names], np.bool_)
    if selector.max_correlation is not None:
        # Those to be kept come first, so that what they exclude is measured against them.
        order = np.where(wanted, value + value.max(initial=0.0) + 1.0, value)
        for gone in correlation_filter(names, correlation, order, selector.max_correlation):
            if gone.name in keep:
                trail.note(gone.name, "correlation", "correlation", gone.value, gone.threshold)
            else:
                trail.drop(
                    gone.name,
                    "correlation",
                    "correlation",
                    gone.value,
                    gone.threshold,
                    gone.by or "",
                )
    if selector.max_vif is None:
        return
    left = [k for k, name in enumerate(names) if name in set(trail.kept)]
    while len(left) > 1:
        factors = vif(correlation[np.ix_(left, left)])
        free = [i for i, k in enumerate(left) if not wanted[k]]
        worst = max(free, key=lambda i: (factors[i], -value[left[i]]), default=None)
        if worst is None or factors[worst] <= selector.max_vif:
            break
        feature, factor = left.pop(worst), float(factors[worst])
        by = max(left, key=lambda k: abs(correlation[feature, k]))
        trail.drop(names[feature], "vif", "vif", factor, selector.max_vif, names[by])


def drop_wrong_signs(
    trail: SelectionTrail,
    fit: FullFit,
    *,
    sign: int,
    iv: Mapping[str, float],
    keep: Collection[str] = (),
) -> None:
    """Drop features whose coefficient has the wrong sign, one at a time.

    A weight of evidence whose coefficient turns against it repeats what other features say. Of
    several such features the one of the lowest information value goes; the coefficients of the
    rest follow from the fit by Lawless and Singhal's approximation if the covariance is known,
    and stay as they are otherwise.

    Parameters
    ----------
    trail : SelectionTrail
    fit : FullFit
    sign : int
        1 or -1: the right sign.
    iv : mapping of str to float
    keep : collection of str
        Features that stay, whatever their sign.
    """
    there = set(trail.kept)
    left = [k for k, name in enumerate(fit.names) if name in there]
    coef = _restricted(fit, left)
    while True:
        wrong = [i for i, k in enumerate(left) if sign * coef[i] < 0 and fit.names[k] not in keep]
        if not wrong:
            break
        worst = min(wrong, key=lambda i: iv[fit.names[left[i]]])
        trail.drop(fit.names[left[worst]], "sign", "coefficient", float(coef[worst]), 0.0)
        del left[worst]
        coef = _restricted(fit, left)
    for name, value in zip((fit.names[k] for k in left), coef, strict=True):
        if sign * value < 0:
            trail.note(name, "sign", "coefficient", float(value), 0.0)


def _restricted(fit: FullFit, left: Sequence[int]) -> Floats:
    """Return the coefficients of some features, approximated where the covariance is known."""
    if fit.covariance is None or len(left) == len(fit.names):
        return fit.coef[list(left)]
    return submodel(fit.coef, fit.covariance, left)[0]


def drop_by_fit(
    trail: SelectionTrail,
    selector: FeatureSelector,
    fit: FullFit,
    *,
    keep: Collection[str] = (),
) -> None:
    """Drop features stepwise by a fit's coefficients and covariance.

    Parameters
    ----------
    trail : SelectionTrail
    selector : FeatureSelector
    fit : FullFit
    keep : collection of str
        Features that are always in the model.

    Raises
    ------
    InputError
        A provider has not released its coefficients.
    """
    if selector.stepwise is None:
        return
    if fit.covariance is None:
        raise InputError(
            "stepwise selection needs the coefficients of every party and their covariance.",
            step="select features: stepwise",
            fix="use FeatureSelector(stepwise=None), or ask the provider to allow "
            "release_coefficients; the covariance also needs polish_steps of at least 1",
        )
    chosen = [k for k, name in enumerate(fit.names) if name in set(trail.kept)]
    names = [fit.names[k] for k in chosen]
    coef, covariance = submodel(fit.coef, fit.covariance, chosen)
    steps = stepwise(
        names,
        coef,
        covariance,
        direction=selector.stepwise,
        criterion=selector.criterion,
        enter=selector.enter,
        remove=selector.remove,
        keep=[name for name in names if name in keep],
    )
    selected = set(steps[-1].selected) if steps else set()
    if not steps:
        selected = set(names) if selector.stepwise == "backward" else set(keep)
    last = {step.name: step for step in steps if step.action == "remove"}
    limit = selector.remove if selector.criterion == "p_value" else 0.0
    for name in names:
        if name in selected:
            continue
        if name in last and selector.criterion == "p_value":
            trail.drop(name, "stepwise", "p_value", last[name].p_value, limit)
        elif name in last:
            trail.drop(name, "stepwise", "aic change", last[name].aic_change, limit)
        else:
            p_value, change = _to_enter(names, coef, covariance, name, selected)
            if selector.criterion == "p_value":
                trail.drop(name, "stepwise", "p_value", p_value, selector.enter)
            else:
                trail.drop(name, "stepwise", "aic change", change, limit)


def _to_enter(
    names: Sequence[str], coef: Floats, covariance: Floats, name: str, selected: Collection[str]
) -> tuple[float, float]:
    """Return the p-value and the change of Akaike's criterion of a feature that never entered."""
    members = [k for k, other in enumerate(names) if other in selected or other == name]
    beta, spread = submodel(coef, covariance, members)
    at = members.index(list(names).index(name))
    statistic = float(beta[at] ** 2 / spread[at, at])
    return float(chi2.sf(statistic, 1)), 2.0 - statistic
