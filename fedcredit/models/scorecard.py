"""A credit scorecard over a federated frame, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pandas import DataFrame, Series
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError
from fedcredit.models.binner import VerticalBinner
from fedcredit.models.classifier import BinaryClassifier
from fedcredit.models.fitting import row_values, with_rows
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.labels import binary_target
from fedcredit.models.local import checked_table, checked_training, local_frame
from fedcredit.models.logistic_job import provider_parts
from fedcredit.models.scorecard_fit import CardRows, build_card, fit_binner
from fedcredit.models.scorecard_job import explain, provider_points
from fedcredit.models.scorecard_share import row_points
from fedcredit.models.scorecard_store import StoredCard
from fedcredit.models.scorecard_tables import ScoredOutcomes
from fedcredit.models.scorecard_views import CardViews
from fedcredit.models.selector import FeatureSelector
from fedcredit.protocols.reasons import NO_REASON, check_size
from fedcredit.stats.scorecard_points import PointScale

__all__ = ["VerticalScorecard"]

Floats = npt.NDArray[np.float64]


class VerticalScorecard(BinaryClassifier, ScoredOutcomes, StoredCard, CardViews, BaseEstimator):
    """Bins, selects, regresses and scales to points, over the features of all parties.

    :meth:`fit` bins every party's features with one encrypted pass, drops features by the
    selector's steps, fits a logistic regression on the weights of evidence of the rest, and turns
    its coefficients into points. A provider's coefficients are fitted, and its points kept, at
    the provider. What became of every feature stands in :attr:`selection_`; bins can be edited on
    :attr:`binner_`, followed by :meth:`refit`, without counting anything again.

    **What a score reveals.** :meth:`points` shows the platform, per row, the sum of the
    providers' points; with one provider, that provider's own sum. ``predict_proba`` and all else
    are derived from the same points, so together they count once per row in the providers'
    ledgers of revealed predictors. Where the platform knows a provider's coefficients
    (``release_coefficients``) and weights of evidence, an exact sum would usually fit one
    combination of bins only, and so name the bins of every row. Whole points take few enough
    values; a provider refuses a scale on which they do not (``pdo`` above 88). With
    ``rounding=False`` the platform sees the sum of log-odds instead, as the regression's own
    ``decision_function`` does, and counted as that: rounded at random to about one point by every
    provider that does not set ``allow_exact_predictor``.

    **Reject inference** works on plain data: append the declined applications to the platform's
    table before aligning, and infer their outcomes from an earlier card (``card.pd(declined)``):
    give each a row with the inferred outcome (hard cut-off), or put the inferred probability into
    a column that is passed as ``sample_weight`` (fuzzy augmentation; one row per enterprise, so
    draw its outcome by that probability), or weight the accepted rows by the inverse of their
    probability of acceptance (reweighting). Bins are counted without weights.

    Parameters
    ----------
    pdo : float, default 20
        Points that double the odds of non-event to event.
    base_score, base_odds : float, default 600 and 50
        Points at these odds of non-event to event.
    binner : VerticalBinner or mapping, optional
        How to bin, as an estimator or its parameters. One that is fitted already is used as it
        is, and its bins are not counted again.
    selector : FeatureSelector or mapping, optional
        How to select, as an object or its parameters; by default ``FeatureSelector()``.
    features : sequence of str, optional
        ``"party.column"`` to start from; all by default.
    keep : sequence of str
        Features that no step drops, unless they have one bin only.
    C : float, default inf
        Inverse strength of the penalty of the regression.
    l1_ratio : float, default 0
        Share of the penalty that is a lasso's.
    reveal_predictor : bool, default False
        See :class:`VerticalLogisticRegression`; so for the next two.
    polish_steps : int, default 1
    max_reveals : int, optional
    sign_constraints : {"auto", None}, default "auto"
        Weights of evidence already carry the direction of risk, so a coefficient against it is an
        artefact of correlated features. ``"auto"`` drops such features, and fits again; the
        coefficients that a provider does not release are held to the right sign instead.
    rounding : bool, default True
        Whole points.
    spread_base : bool, default True
        Spread the base points evenly over the characteristics; else they stand alone. Spread
        points tell a provider the intercept of the model, no more than what its weights of
        evidence tell it already.

    Attributes
    ----------
    binner_ : VerticalBinner
        Open to edits; see :meth:`refit`.
    regression_ : VerticalLogisticRegression
        The last fit; not part of a saved card.
    selection_ : pandas.DataFrame
        One line per feature: ``party``, ``kept``, ``step``, ``statistic``, ``value``,
        ``threshold``, ``against``, ``iv``.
    features_ : list of str
        The characteristics of the card.
    share_ : ScorecardShare
        Scale, intercept and characteristics as the platform knows them.
    calibration_ : Calibration or None
        Set by :meth:`calibrate`.
    classes_ : ndarray, shape (2,)
    event_ : object
        The class that counts as event.
    platform_, model_id_, regression_id_ : str
    providers_ : tuple of str
        Providers with characteristics in the card.
    n_fits_ : int
        Regressions that the last fit took.
    revealed_ : int
        Predictors of the training rows that these revealed; not part of a saved card.

    Examples
    --------
    >>> import fedcredit as fc
    >>> population = fc.datasets.make_sme_population(2_000, seed=1)
    >>> fed = fc.simulate(platform=population.platform, tax=population.tax)
    >>> train, test = fed.align(on="uscc").train_test_split(random_state=0)
    >>> card = fc.VerticalScorecard(pdo=20, base_score=600, base_odds=50)
    >>> card.fit(train, y="default").points(test).name
    'points'
    """

    def __init__(
        self,
        pdo: float = 20.0,
        base_score: float = 600.0,
        base_odds: float = 50.0,
        *,
        binner: VerticalBinner | Mapping[str, Any] | None = None,
        selector: FeatureSelector | Mapping[str, Any] | None = None,
        features: Sequence[str] | None = None,
        keep: Sequence[str] = (),
        C: float = np.inf,
        l1_ratio: float = 0.0,
        reveal_predictor: bool = False,
        polish_steps: int = 1,
        max_reveals: int | None = None,
        sign_constraints: str | None = "auto",
        rounding: bool = True,
        spread_base: bool = True,
    ) -> None:
        self.pdo = pdo
        self.base_score = base_score
        self.base_odds = base_odds
        self.binner = binner
        self.selector = selector
        self.features = features
        self.keep = keep
        self.C = C
        self.l1_ratio = l1_ratio
        self.reveal_predictor = reveal_predictor
        self.polish_steps = polish_steps
        self.max_reveals = max_reveals
        self.sign_constraints = sign_constraints
        self.rounding = rounding
        self.spread_base = spread_base

    # ---------------------------------------------------------------------- fitting

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: FederatedFrame | None = None,
    ) -> Self:
        """Bin, select, regress and scale.

        Parameters
        ----------
        X : FederatedFrame, or table of one party (n, k)
        y : str or array of shape (n,)
            The platform's label column, or the labels in the frame's order.
        sample_weight : str or array of shape (n,), optional
            A column of the platform, or weights. They enter the regression; bins are counted
            without weights.
        validation : FederatedFrame, optional
            Other rows, for the stability step (``max_psi``).

        Returns
        -------
        self

        Raises
        ------
        InputError
            Labels, columns or parameters that cannot be used, or no feature is left; the trail of
            what was dropped is in ``selection_`` then.
        PolicyError
            A provider does not allow a step; the message says which setting does without.
        BudgetError
            A provider has revealed as many predictors of these rows as it allows.
        ProtocolError, TransportError
            A provider fails or cannot be reached.
        """
        for name in ("share_", "selection_", "regression_", "training_"):
            self.__dict__.pop(name, None)
        if isinstance(X, FederatedFrame):
            frame = X
            self.__dict__.pop("feature_names_in_", None)
        else:
            table, y = checked_training(self, X, y, numeric=False)
            frame = local_frame(table)
        binary_target(row_values(frame, y, "y"))
        rows = CardRows(frame, y, sample_weight, validation, is_frame=frame is X)
        self.binner_ = fit_binner(self, rows)
        self.training_ = rows
        if frame is X:
            self.n_features_in_ = len(self.binner_.names_)
        return self.refit()

    def refit(self) -> Self:
        """Select, regress and scale again, on :attr:`binner_` as it is now.

        For instance after ``card.binner_.merge("tax.annual_paid", 2, 3)``. Events are not counted
        again; the regression reveals what a fit reveals. If it is refused, the card stays as it
        was, with the trail of the attempt in ``selection_``.

        Returns
        -------
        self

        Raises
        ------
        InputError
            This copy of the card does not hold the rows that it was fitted on.
        FedCreditError
            As :meth:`fit`.
        """
        if not hasattr(self, "training_"):
            raise InputError(
                "this copy of the scorecard does not hold the rows of its fit.",
                step="scorecard: refit",
                fix="call fit; a loaded or copied card keeps no rows",
            )
        built = build_card(self, self.training_)
        self.regression_, self.n_fits_ = built.regression, built.n_fits
        self.revealed_ = built.revealed
        self.model_id_, self.regression_id_ = built.model_id, built.regression.model_id_
        self.classes_, self.event_ = self.binner_.classes_, self.binner_.event_
        self.platform_ = self.binner_.platform_
        self.federation_ = self.training_.frame.federation
        self.calibration_ = None
        # Edits of binner_ must not change what is scored before the next refit.
        self.scoring_binner_ = VerticalBinner.load(self.binner_.to_bytes())
        self.share_ = built.share
        self.keep_share()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "share_")

    # ---------------------------------------------------------------------- scoring

    def _frame(self, X: Any, *, step: str) -> FederatedFrame:
        check_is_fitted(self)
        if isinstance(X, FederatedFrame):
            frame = X
        elif self.providers_:
            raise InputError(
                "this scorecard needs the columns of other parties.",
                step=step,
                fix="pass a federated frame",
            )
        else:
            frame = local_frame(checked_table(self, X, reset=False))
        if not len(frame):
            raise InputError("the frame has no rows.", step=step, fix="choose at least one row")
        missing = sorted(set(self.providers_) - set(frame.providers))
        if missing:
            raise InputError(
                f"the frame lacks the providers {', '.join(missing)}, and a score of fewer "
                "characteristics is no score.",
                step=step,
                fix="align with every provider of the scorecard",
            )
        return frame

    def _own_points(self, frame: FederatedFrame) -> Floats:
        """Return the platform's points of rows in each of its characteristics, shape (n, k)."""
        own = self.share_.of(self.platform_)
        names = [c.name for c in own]
        if not names:
            return np.zeros((len(frame), 0))
        woe = self.scoring_binner_.transform_own(frame, names)[names].to_numpy(np.float64)
        coef = [0.0 if c.coef is None else c.coef for c in own]
        share = self.share_
        return row_points(woe, coef, share.scale, base=share.spread, rounding=share.rounding)

    def points(self, X: Any) -> Series:
        """Credit points of rows: more points mean less risk.

        Parameters
        ----------
        X : FederatedFrame, or table of one party if no provider is in the card

        Returns
        -------
        pandas.Series
            Named ``points``, in the order of the rows (``frame.ids`` has that order too); int64
            with ``rounding``, else float64.

        Raises
        ------
        InputError
            The frame lacks a provider of the card: there are no partial scores.
        BudgetError
            A provider's limit of revealed predictors is reached for some row.
        """
        frame = self._frame(X, step="score")
        rows, back = np.unique(frame.rows, return_inverse=True)
        share = self.share_
        own = self._own_points(with_rows(frame, rows)).sum(axis=1)
        theirs = np.zeros(len(rows))
        if self.providers_:
            # Whole points are summed up; otherwise the regression's log-odds are, so that the
            # two show the platform the same numbers.
            sum_up = provider_points if share.rounding else provider_parts
            theirs = sum_up(
                frame.federation,
                model_id=self.model_id_ if share.rounding else self.regression_id_,
                frame_id=frame.frame_id,
                rows=rows,
                providers=self.providers_,
            )
        if not share.rounding:
            foreign = sum(len(share.of(name)) for name in self.providers_)
            theirs = share.spread * foreign - share.scale.factor * theirs
        total = (share.base + own + theirs)[back]
        if share.rounding:
            return Series(np.rint(total).astype(np.int64), name="points")
        return Series(total, name="points")

    def decision_function(self, X: Any) -> Floats:
        """Log-odds of the second class that the points stand for; shape (n,).

        With ``rounding`` they are those of the whole points, not of the exact regression.
        """
        points = self.points(X).to_numpy(np.float64)
        log_odds = self._scale().to_log_odds(points)
        return log_odds if self.event_ == self.classes_[1] else -log_odds

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _scale(self) -> PointScale:
        return self.share_.scale

    def _classes(self) -> npt.NDArray[Any]:
        check_is_fitted(self)
        return self.classes_

    # ---------------------------------------------------------------------- reasons

    def reason_codes(self, X: Any, n: int = 4, *, neutral: str = "max") -> DataFrame:
        """Name the characteristics that cost each row most points.

        Every provider shows the platform its ``n`` largest losses of these rows, by feature,
        group or party as its policy says; see :mod:`fedcredit.protocols.reasons`. Each call with
        another ``n`` or ``neutral`` counts as one more revealed predictor of these rows.

        Parameters
        ----------
        X : FederatedFrame, or table of one party
            At most 1,000 different rows.
        n : int, default 4
            Reasons per row, at most 10.
        neutral : {"max", "mean"}
            Points are lost against the best bin, or the mean of the training rows.

        Returns
        -------
        pandas.DataFrame
            Columns ``reason_1``, ``lost_1`` and so on: ``"party.label"`` (the party alone at that
            grain) and whole points; missing where there are fewer reasons.

        Raises
        ------
        InputError
            Too many rows or reasons, or an unknown ``neutral``.
        BudgetError
            A provider's limit of revealed predictors is reached for some row.
        """
        frame = self._frame(X, step="reason codes")
        if neutral not in ("max", "mean"):
            raise InputError(
                "the neutral value is unknown.", step="reason codes", fix='use "max" or "mean"'
            )
        rows, back = np.unique(frame.rows, return_inverse=True)
        check_size(len(rows), n)
        own = self.share_.of(self.platform_)
        best = np.array([c.neutral(neutral) for c in own])
        reasons = explain(
            frame.federation,
            model_id=self.model_id_,
            frame_id=frame.frame_id,
            rows=rows,
            providers=self.providers_,
            losses=best - self._own_points(with_rows(frame, rows)),
            labels=[c.label for c in own],
            n=n,
            neutral=neutral,
        )
        names = [p if p == label else f"{p}.{label}" for p, label in reasons.labels]
        columns: dict[str, Any] = {}
        for k in range(n):
            number, lost = reasons.number[back, k], reasons.loss[back, k]
            none = number == NO_REASON
            named = [None if gone else names[i] for i, gone in zip(number, none, strict=True)]
            columns[f"reason_{k + 1}"] = Series(named, dtype=object)
            columns[f"lost_{k + 1}"] = Series(lost, dtype="Int64").mask(none)
        return DataFrame(columns)
