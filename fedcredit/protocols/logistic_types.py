"""What goes into and comes out of a vertical logistic regression.

The protocol is :mod:`fedcredit.protocols.logistic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError

__all__ = [
    "LogisticData",
    "LogisticLimits",
    "LogisticOutcome",
    "LogisticParams",
    "ProviderCoefficients",
    "Released",
    "TracePoint",
]

FloatArray = npt.NDArray[np.float64]
_PARAMETERS = "logistic: parameters"
_DATA = "logistic: data"
#: Columns of a provider, as a share of the rows, beyond which its gradients would tell labels.
MAX_COLUMN_SHARE = 0.05


@dataclass(frozen=True)
class LogisticParams:
    """The objective and how it is minimised; both roles get the same.

    The objective is ``Σ_i w_i·logloss_i + (1/C)·(l1_ratio·‖β‖₁ + (1 − l1_ratio)/2·‖β‖²)``, with
    the coefficients in the units of the given columns and the intercept unpenalised.

    Attributes
    ----------
    C : float, default inf
        Inverse strength of the penalty.
    l1_ratio : float, default 0
        0 is ridge, 1 is lasso.
    reveal_predictor : bool, default False
        After the hidden phase the label holder sees the providers' summed predictor, exactly, as
        often as ``tol`` takes; capped by ``max_reveals``: with as many reveals as a provider has
        columns, and some rows that it knows, a label holder recovers every column of every row.
    polish_steps : int, default 2
        Exact Newton steps after the hidden phase, at most; each reveals one summed predictor. The
        second is taken only if the first was so long that an error above 1e-4 may be left.
    max_reveals : int or None, default None
        Summed predictors that may be revealed; None is half of the columns of the provider with
        the fewest, at least 1 (rounded up).
    tol : float, default 1e-6
        Exact steps end when no standardised coefficient moves by more.
    hidden_tol : float, optional
        The hidden phase ends at this norm of the mean gradient over whitened columns; by default
        1e-3, and 3e-4 if no exact step follows.
    max_iter : int, default 60
        Evaluations of the hidden gradient, at most.
    terms : int, default 3
        Harmonics of the sigmoid's series at the start of the hidden phase.
    final_terms : int, optional
        The same at its end; by default as many, and 8 if no exact step follows.
    period : float, default 14
        Period of that series on the log-odds scale; lengthened when the parties' parts need it.
    memory : int, default 10
        Pairs that the quasi-Newton method remembers.

    Raises
    ------
    InputError
        If a parameter is out of range.
    """

    C: float = np.inf
    l1_ratio: float = 0.0
    reveal_predictor: bool = False
    polish_steps: int = 2
    max_reveals: int | None = None
    tol: float = 1e-6
    hidden_tol: float | None = None
    max_iter: int = 60
    terms: int = 3
    final_terms: int | None = None
    period: float = 14.0
    memory: int = 10

    def __post_init__(self) -> None:
        checks = {
            "C": self.C > 0,
            "l1_ratio": 0 <= self.l1_ratio <= 1,
            "polish_steps": self.polish_steps >= 0,
            "max_reveals": self.max_reveals is None or self.max_reveals >= 0,
            "tol": 0 < self.tol < 1,
            "hidden_tol": 0 < self.hidden_end < 1,
            "max_iter": 1 <= self.max_iter <= 1000,
            "terms": 1 <= self.terms <= self.end_terms <= 24,
            "period": 4 <= self.period <= 200,
            "memory": 1 <= self.memory <= 30,
        }
        for name, good in checks.items():
            if not good:
                raise InputError(f"{name} is out of range.", step=_PARAMETERS)
        if self.polish_steps == 0 and self.reveal_predictor:
            raise InputError(
                "polish_steps=0 and reveal_predictor=True contradict each other.", step=_PARAMETERS
            )

    @property
    def hidden_end(self) -> float:
        """The gradient norm at which the hidden phase ends."""
        if self.hidden_tol is not None:
            return self.hidden_tol
        return 1e-3 if self.polish_steps else 3e-4

    @property
    def end_terms(self) -> int:
        """Harmonics at the end of the hidden phase."""
        if self.final_terms is not None:
            return self.final_terms
        return self.terms if self.polish_steps else max(self.terms, 8)

    def reveals_allowed(self, sizes: Mapping[str, int]) -> int:
        """Give the cap on revealed predictors for providers of so many columns."""
        if self.max_reveals is not None:
            return self.max_reveals
        return max(1, -(-min(sizes.values()) // 2)) if sizes else 0


@dataclass(frozen=True, eq=False, repr=False)
class LogisticData:
    """The label holder's side of the data, one entry per row in the common order.

    Attributes
    ----------
    own : ndarray of float64, shape (n, d0)
        Its columns, without a constant; ``d0`` may be 0.
    y : ndarray of float64, shape (n,)
        Labels in {0, 1}.
    weight : ndarray of float64, shape (n,), optional
    offset : ndarray of float64, shape (n,), optional
        Added to the log-odds.
    signs : sequence of int, shape (d0,), optional
        1: the coefficient is at least 0; −1: at most 0; 0: free.

    Raises
    ------
    InputError
        If the shapes do not fit, a value is not finite, a weight is negative, the labels are not
        0 and 1 or are all alike.
    """

    own: FloatArray
    y: FloatArray
    weight: FloatArray | None = None
    offset: FloatArray | None = None
    signs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.y)
        if self.own.ndim != 2 or len(self.own) != n or self.y.ndim != 1 or n < 1:
            raise InputError("columns and labels are not of the same rows.", step=_DATA)
        for name, vector in (("weight", self.weight), ("offset", self.offset)):
            if vector is not None and (vector.shape != (n,) or not np.isfinite(vector).all()):
                raise InputError(
                    f"{name} is not one finite number per row.", step=_DATA, fix="drop such rows"
                )
        if self.weight is not None and (self.weight.min() < 0 or not self.weight.any()):
            raise InputError("a weight is negative, or all are 0.", step=_DATA)
        if not np.isin(self.y, (0.0, 1.0)).all():
            raise InputError("labels are not all 0 or 1.", step=_DATA, fix="encode bad as 1")
        kept = self.y if self.weight is None else self.y[self.weight > 0]
        if kept.min() == kept.max():
            raise InputError(
                "the labels are all alike.", step=_DATA, fix="use rows of both classes"
            )


@dataclass(frozen=True)
class LogisticLimits:
    """What a provider refuses whoever asks.

    Attributes
    ----------
    max_reveals : int
        Summed predictors that may be revealed in this fit.
    max_evaluations : int
        Gradients, by any method, in this fit.
    release_coefficients : bool
        Whether the label holder gets this provider's coefficients and standard errors, with the
        covariance of the coefficients.
    min_rows : int
        Rows in which a column must differ from its most frequent value; a column with fewer
        would read the labels of those rows off its gradient.
    exact_predictors : bool
        Whether revealed predictors are exact. Otherwise they are coarsened
        (:func:`fedcredit.protocols.predictor.coarsened`), which moves the coefficients by a
        hundredth of their standard errors, and a fit with ``reveal_predictor`` is refused.
    """

    max_reveals: int = 1
    max_evaluations: int = 100
    release_coefficients: bool = True
    min_rows: int = 5
    exact_predictors: bool = False


@dataclass(frozen=True)
class TracePoint:
    """One evaluation of the gradient.

    Attributes
    ----------
    iteration : int
        From 0.
    gradient_norm : float
        Of the mean gradient over whitened columns.
    step : float
        Norm of the step that led here, over whitened columns: a standard deviation of log-odds.
    phase : str
        ``"start"``, ``"hidden"`` or ``"exact"``.
    revealed : int
        Summed predictors revealed so far.
    """

    iteration: int
    gradient_norm: float
    step: float
    phase: str
    revealed: int


@dataclass(frozen=True, eq=False, repr=False)
class Released:
    """A provider's coefficients, where its policy releases them.

    Attributes
    ----------
    coef : ndarray of float64, shape (dk,)
    standard_error : ndarray of float64, shape (dk,), or None
    """

    coef: FloatArray
    standard_error: FloatArray | None


@dataclass(frozen=True, eq=False, repr=False)
class LogisticOutcome:
    """What the label holder has after a fit.

    Attributes
    ----------
    coef : ndarray of float64, shape (d0,)
        Of its own columns.
    intercept : float
    covariance_own : ndarray of float64, shape (d0 + 1, d0 + 1), or None
        Of its coefficients and the intercept, which is last; None without an exact step.
    released : dict of provider to Released
        Of the providers that release them.
    covariance : ndarray of float64, shape (D + 1, D + 1), or None
        Of all coefficients in the order label holder, providers, intercept, if all release.
    trace : list of TracePoint
    revealed : int
        Summed predictors revealed.
    evaluations : int
        Gradients evaluated, by any method.
    converged : bool
    predictor : ndarray of float64, shape (n,), or None
        Log-odds at the final coefficients, if they were revealed.
    """

    coef: FloatArray
    intercept: float
    covariance_own: FloatArray | None
    released: dict[str, Released]
    covariance: FloatArray | None
    trace: list[TracePoint] = field(default_factory=list)
    revealed: int = 0
    evaluations: int = 0
    converged: bool = False
    predictor: FloatArray | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ProviderCoefficients:
    """What a provider has after a fit.

    Attributes
    ----------
    coef : ndarray of float64, shape (dk,)
    standard_error : ndarray of float64, shape (dk,), or None
        None without an exact step.
    """

    coef: FloatArray
    standard_error: FloatArray | None
