"""Logistic regression over a federated frame, as a scikit-learn estimator."""

from __future__ import annotations

import dataclasses
import secrets
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from fedcredit.errors import InputError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.classifier import BinaryClassifier
from fedcredit.models.fitting import choose_rows, label_columns
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.labels import binary_target
from fedcredit.models.linear_share import LinearShare, joint_share, own_share
from fedcredit.models.local import checked_training, local_frame
from fedcredit.models.logistic_base import TRACE, FittedLogistic
from fedcredit.models.logistic_data import (
    OwnColumns,
    choose,
    fitted_binner,
    named_positions,
    row_offset,
)
from fedcredit.models.logistic_job import MODEL, LogisticJob
from fedcredit.protocols.logistic_types import LogisticData, LogisticParams
from fedcredit.stats.glm import fit_glm

__all__ = ["VerticalLogisticRegression"]

Floats = npt.NDArray[np.float64]
_DEFAULTS = LogisticParams()
#: Norm of a step over standardised columns.
_LONG_STEP = 0.1


class VerticalLogisticRegression(BinaryClassifier, FittedLogistic):
    """Logistic regression on the columns of several parties.

    Every party learns its own coefficients; the platform also those that providers release. By
    default the linear predictor stays hidden while the model is fitted; one or two exact Newton
    steps at the end reveal the sum of the providers' parts once each, for the training rows.

    Minimises ``Σ_i w_i·logloss_i + (1/C)·(l1_ratio·‖β‖₁ + (1 − l1_ratio)/2·‖β‖²)``, the intercept
    unpenalised. The penalty applies to WOE columns as they are, and to other columns in units of
    two digits of their standard deviation over the owner's table. Coefficients are reported in the
    columns' natural units.

    Parameters
    ----------
    binner : VerticalBinner, optional
        The columns are then its weights of evidence. A fitted binner is used as it is; one that is
        not (as scikit-learn's searches hand out) is copied and fitted on the training rows.
        Without a binner columns must be numeric and complete.
    features : sequence of str, optional
        ``"party.column"`` to use; all by default.
    C : float, default inf
        Inverse strength of the penalty.
    l1_ratio : float, default 0.0
        Share of the lasso in the penalty.
    reveal_predictor : bool, default False
        Fit on the exact sum of the providers' predictors at every iteration, where all of them
        allow exact predictors. Each one counts in their budgets: with as many as a provider has
        columns, and some known rows, its columns can be solved for.
    polish_steps : int, default 2
        Exact steps at most after the hidden phase, each of which reveals one predictor; 0 for
        none, which leaves no standard errors.
    max_reveals : int, optional
        Predictors that the fit may reveal; half of the columns of the provider with the fewest by
        default. The providers' own limits hold as well.
    sign_constraints : mapping of ``"party.column"`` to -1 or 1, optional
    clip_quantile : float, default 0.0
        Clip raw columns at this share of the owner's values from either end.
    tol : float, default 1e-6
        Exact steps end when no standardised coefficient moves by more.
    max_iter : int, default 60
        Iterations at most.
    random_state : int, optional
        Not used: nothing but secret masks is drawn, and those never from a seed.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
    feature_labels_ : list of str
        ``party.label`` of every column, the platform's first.
    coef_ : ndarray of float64, shape (1, D)
        In the order of :attr:`feature_labels_`; NaN where a provider keeps them to itself.
    intercept_ : ndarray of float64, shape (1,)
        Log odds where every column is zero. Unless all providers release their coefficients,
        their columns count from their centres.
    covariance_ : ndarray of float64, shape (D + 1, D + 1), or None
        Of all coefficients and, last, the intercept, where all are released and an exact step was
        made.
    n_iter_ : int
        Gradients evaluated, or Newton steps of a model of one party.
    converged_ : bool
    revealed_ : int
        Predictors that the fit revealed.
    trace_ : pandas.DataFrame
        One line per gradient: iteration, gradient_norm, step, phase, revealed.
    n_features_in_ : int
    providers_ : tuple of str
    binner_ : VerticalBinner or None
        The binner's state of this fit.
    model_id_ : str
        Names the model at every party.

    Examples
    --------
    >>> import fedcredit as fc
    >>> population = fc.datasets.make_sme_population(2_000, seed=1)
    >>> fed = fc.simulate(platform=population.platform, tax=population.tax)
    >>> frame = fed.align(on="uscc")
    >>> names = ["platform.enquiries_6m", "tax.late_filings_12m"]
    >>> model = fc.VerticalLogisticRegression(features=names).fit(frame, y="default")
    >>> (model.coef_ > 0).all()
    np.True_
    """

    def __init__(
        self,
        binner: VerticalBinner | None = None,
        features: Sequence[str] | None = None,
        *,
        C: float = np.inf,
        l1_ratio: float = 0.0,
        reveal_predictor: bool = False,
        polish_steps: int = _DEFAULTS.polish_steps,
        max_reveals: int | None = None,
        sign_constraints: Mapping[str, int] | None = None,
        clip_quantile: float = 0.0,
        tol: float = _DEFAULTS.tol,
        max_iter: int = _DEFAULTS.max_iter,
        random_state: int | None = None,
    ) -> None:
        self.binner = binner
        self.features = features
        self.C = C
        self.l1_ratio = l1_ratio
        self.reveal_predictor = reveal_predictor
        self.polish_steps = polish_steps
        self.max_reveals = max_reveals
        self.sign_constraints = sign_constraints
        self.clip_quantile = clip_quantile
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    # ---------------------------------------------------------------------- fitting

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Fit.

        Parameters
        ----------
        X : FederatedFrame, or table of one party (n, k)
        y : str or array of shape (n,)
            The platform's label column, or the labels in the frame's order.
        sample_weight : str or array of shape (n,), optional
            A column of the platform, or weights.
        offset : str or array of shape (n,), optional
            Added to the log odds in the fit, and not in predictions.

        Returns
        -------
        self

        Raises
        ------
        InputError
            Labels, weights, columns or parameters that cannot be used; labels that the columns
            separate; columns that depend on each other, within a party or across.
        BudgetError
            A provider has no reveals left for these rows.
        ProtocolError, TransportError
            The providers refuse, or cannot be reached.

        Warns
        -----
        ConvergenceWarning
            The tolerance was not reached.
        """
        self.__dict__.pop("share_", None)
        params = self._params()
        if isinstance(X, FederatedFrame):
            frame = X
            self.__dict__.pop("feature_names_in_", None)
        else:
            table, y = checked_training(self, X, y, numeric=False)
            frame = local_frame(table)
        rows = choose_rows(frame, y, sample_weight, None, fraction=None, stratify=True, seed=0)
        self.classes_, target = binary_target(rows.y)
        shift = None if offset is None else row_offset(frame, offset)
        exclude = label_columns(rows, y, sample_weight) if frame is X else ()
        if frame is X and isinstance(offset, str):
            exclude = (*exclude, offset.removeprefix(f"{frame.federation.platform}."))
        binner = None
        if self.binner is not None:
            binner = fitted_binner(self.binner, X if frame is X else frame, y)
        chosen = choose(
            frame,
            features=self.features,
            signs=self.sign_constraints,
            exclude=exclude,
            binner=binner,
        )
        own = OwnColumns.of(
            rows,
            chosen.own,
            binner=binner,
            clip_quantile=self.clip_quantile,
            dependent=np.inf > self.C,
        )
        platform = frame.federation.platform
        own_signs = chosen.signs.get(platform, {})
        data = LogisticData(
            own=own.matrix,
            y=target,
            weight=rows.weight,
            offset=shift,
            signs=tuple(own_signs.get(label, 0) for label in own.labels) if own_signs else None,
        )
        self.model_id_ = secrets.token_hex(8)
        self.train_rows_, self.train_predictor_ = np.zeros(0, np.uint32), np.zeros(0)
        if chosen.providers:
            job = LogisticJob(
                rows=rows,
                data=data,
                columns=chosen.providers,
                signs=chosen.signs,
                params=params,
                binner_id="" if binner is None else binner.publish(),
                clip_quantile=self.clip_quantile if binner is None else 0.0,
            )
            share = self._fit_joint(job, own)
        else:
            share = self._fit_alone(data, own, platform)
        self.binner_ = None if binner is None else VerticalBinner.load(binner.to_bytes())
        if frame is X:
            self.n_features_in_ = len(frame.columns) - len(exclude)
        self.federation_, self.frame_id_ = frame.federation, frame.frame_id
        self.target_ = y if isinstance(y, str) else "y"
        self._adopt(share)
        frame.federation.store.put(MODEL, self.model_id_, self._stored().to_bytes())
        if not self.converged_:
            warnings.warn(
                "the fit did not reach its tolerance: see trace_; raise max_iter or max_reveals, "
                "or set C if columns nearly separate the labels",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _params(self) -> LogisticParams:
        if not 0 <= self.clip_quantile < 0.5:
            raise InputError(
                "clip_quantile is out of range.",
                step="train: parameters",
                fix="use 0 for no clipping, or a share below 0.5",
            )
        try:
            return LogisticParams(
                C=float(self.C),
                l1_ratio=float(self.l1_ratio),
                reveal_predictor=bool(self.reveal_predictor),
                polish_steps=int(self.polish_steps),
                max_reveals=self.max_reveals,
                tol=float(self.tol),
                max_iter=int(self.max_iter),
            )
        except InputError as error:
            error.fix = error.fix or "see the parameters of VerticalLogisticRegression"
            raise

    def _fit_joint(self, job: LogisticJob, own: OwnColumns) -> LinearShare:
        joint = job.run(self.model_id_)
        outcome = joint.outcome
        self.n_iter_ = int(outcome.evaluations)
        last = outcome.trace[-1]
        # What a Newton step leaves is about its square: after a long one there was more to come,
        # without an end if the columns separate the labels.
        is_moving = last.phase == "exact" and last.step > _LONG_STEP
        self.converged_ = bool(outcome.converged) and not is_moving
        self.revealed_ = int(outcome.revealed)
        self.trace_ = pd.DataFrame(
            [dataclasses.astuple(point) for point in outcome.trace], columns=TRACE
        )
        if outcome.predictor is not None:
            self.train_rows_ = job.rows.frame.rows
            offset = job.data.offset
            self.train_predictor_ = outcome.predictor - (0.0 if offset is None else offset)
        platform = job.federation.platform
        return joint_share(platform, own.labels, own.numeric, outcome, joint.labels, joint.units)

    def _fit_alone(self, data: LogisticData, own: OwnColumns, platform: str) -> LinearShare:
        try:
            fitted = fit_glm(
                data.own,
                data.y,
                weight=data.weight,
                offset=data.offset,
                C=self.C,
                l1_ratio=self.l1_ratio,
                signs=data.signs,
                tol=self.tol,
                max_iter=self.max_iter,
            )
        except InputError as error:
            raise named_positions(error, own.labels).at(party=platform) from None
        self.n_iter_, self.converged_ = max(1, fitted.iterations), fitted.converged
        self.revealed_, self.trace_ = 0, pd.DataFrame([], columns=TRACE)
        return own_share(
            platform, own.labels, own.numeric, fitted.coef, fitted.intercept, fitted.covariance
        )
