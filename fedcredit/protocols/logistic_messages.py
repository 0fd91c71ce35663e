"""The messages of vertical logistic regression; see :mod:`fedcredit.protocols.logistic`."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire import F64x1, F64x2, I64x1, Message, U16x1, U64x1

__all__ = [
    "Agreed",
    "Basis",
    "BasisGradient",
    "BasisStep",
    "Columns",
    "Evaluate",
    "Exact",
    "Finish",
    "Gram",
    "MaskedParts",
    "MaskedSums",
    "Moments",
    "Move",
    "Ranges",
    "Result",
    "Reveal",
    "Start",
]

_SMALL = 64 << 10
_ROWS_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class Start(
    Message,
    kind="logistic.start",
    version=1,
    max_bytes=_SMALL,
    reveals="the number of rows and the sum of the weights",
):
    """Label holder to provider: a fit begins."""

    n_rows: int
    total_weight: float


@dataclass(frozen=True, eq=False, repr=False)
class Columns(
    Message,
    kind="logistic.columns",
    version=1,
    max_bytes=_SMALL,
    reveals="how many columns the provider has, and whether a sign or lasso binds them",
):
    """Provider to label holder: it is ready."""

    count: int
    smooth: bool


@dataclass(frozen=True, eq=False, repr=False)
class Agreed(
    Message,
    kind="logistic.agreed",
    version=1,
    max_bytes=_SMALL,
    reveals="how many columns the label holder has, and whether a sign or lasso binds any party",
):
    """Label holder to provider: how the fit goes on. ``label_columns`` has the intercept."""

    label_columns: int
    smooth: bool


@dataclass(frozen=True, eq=False, repr=False)
class Exact(
    Message,
    kind="logistic.exact",
    version=1,
    max_bytes=_SMALL,
    reveals="the size of the encrypted numbers (the largest weight, or residual)",
):
    """Label holder to provider: take the inner products with an encrypted vector.

    Parameters
    ----------
    number : int
        Of the evaluation.
    purpose : str
        ``"linear"``: what every later hidden gradient subtracts; ``"start"``: the gradient at the
        start; ``"both"``: the latter is minus the former; ``"exact"``: the gradient of an exact
        step, which the provider answers with its `Basis` and `BasisGradient`; ``"correction"``:
        the same, less the last hidden gradient.
    units : tuple of float
        What one unit of each digit of the vector is worth; one pass per digit.
    """

    number: int
    purpose: str
    units: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class MaskedSums(
    Message,
    kind="logistic.sums",
    version=1,
    max_bytes=_SMALL << 4,
    reveals="the recipient's own inner products: the gradient of its columns; "
    "the sender sees them under the recipient's masks",
):
    """Key holder to evaluator: decrypted sums under the evaluator's masks, (F,)."""

    values: I64x1


@dataclass(frozen=True, eq=False, repr=False)
class Move(
    Message,
    kind="logistic.move",
    version=1,
    max_bytes=_SMALL,
    reveals="coefficients of the step in terms of the provider's own last steps and gradients",
):
    """Label holder to provider: move the coefficients, and say how far the predictor reaches.

    Parameters
    ----------
    method : str
        ``"newton"``: the combination ``coefficients`` of the own steps, differences and gradient;
        ``"proximal"``: a proximal step of ``curvature`` and ``momentum``; ``"settle"``: the
        same without a place to extrapolate to.
    """

    method: str
    coefficients: tuple[float, ...]
    curvature: float
    momentum: float


@dataclass(frozen=True, eq=False, repr=False)
class Ranges(
    Message,
    kind="logistic.range",
    version=1,
    max_bytes=_SMALL,
    reveals="the largest magnitude of the provider's part of the predictor, rounded up to 1/2",
):
    """Provider to label holder: answer to a move."""

    largest: float


@dataclass(frozen=True, eq=False, repr=False)
class Evaluate(
    Message,
    kind="logistic.evaluate",
    version=1,
    max_bytes=_SMALL,
    reveals="the length and period of the series, and the largest weight",
):
    """Label holder to provider: evaluate the hidden gradient where the coefficients are.

    Parameters
    ----------
    number : int
        Of the evaluation, ascending without gaps over both kinds.
    terms : int
    period : float
    unit : float
        What one unit of an encrypted number is worth.
    bound : float
        Of a row's sum over the vectors, in these units.
    pair : bool
        Whether step and change of the gradient are remembered.
    """

    number: int
    terms: int
    period: float
    unit: float
    bound: float
    pair: bool


@dataclass(frozen=True, eq=False, repr=False)
class MaskedParts(
    Message,
    kind="logistic.parts",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="nothing: angles under a mask that is used once and that only providers know",
):
    """Provider to label holder: its part of the predictor as masked angles, (n,)."""

    angles: U16x1


@dataclass(frozen=True, eq=False, repr=False)
class Moments(
    Message,
    kind="logistic.products",
    version=1,
    max_bytes=_SMALL,
    reveals="with the other providers' shares the sums of inner products of their steps and "
    "gradients; with one provider its own",
):
    """Provider to label holder: inner products in fixed point under a share of zero."""

    values: U64x1


@dataclass(frozen=True, eq=False, repr=False)
class Reveal(
    Message,
    kind="logistic.reveal",
    version=1,
    max_bytes=_SMALL,
    reveals="that the label holder asks for the summed predictor",
):
    """Label holder to provider: reveal the part of the predictor; counted."""

    number: int


@dataclass(frozen=True, eq=False, repr=False)
class Gram(
    Message,
    kind="logistic.gram",
    version=1,
    max_bytes=_SMALL,
    reveals="that the second derivatives are taken",
):
    """Label holder to provider: take part in the weighted Gram matrix of the bases."""

    number: int


@dataclass(frozen=True, eq=False, repr=False)
class Basis(
    Message,
    kind="logistic.basis",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="how many coefficients are free; in a secret basis: means of the columns and the "
    "penalty's second derivative, whose eigenvalues are those of their inverse covariance",
):
    """Provider to label holder: the directions of its exact steps.

    Parameters
    ----------
    size : int
        f; with 0 the Gram matrix has one column of noise instead.
    fresh : bool
        Whether the directions are others than before.
    mean : ndarray of float64, shape (f,)
    penalty : ndarray of float64, shape (f, f), or (0, 0) without a ridge penalty
    """

    size: int
    fresh: bool
    mean: F64x1
    penalty: F64x2


@dataclass(frozen=True, eq=False, repr=False)
class BasisGradient(
    Message,
    kind="logistic.gradient",
    version=1,
    max_bytes=_SMALL << 4,
    reveals="the gradient of the provider's coefficients at a revealed predictor, "
    "in a secret basis",
):
    """Provider to label holder: gradient per unit of weight, penalty included, (f,)."""

    values: F64x1


@dataclass(frozen=True, eq=False, repr=False)
class BasisStep(
    Message,
    kind="logistic.step",
    version=1,
    max_bytes=_SMALL << 4,
    reveals="the provider's own part of a step",
):
    """Label holder to provider: its block of an exact step, (f,)."""

    values: F64x1


@dataclass(frozen=True, eq=False, repr=False)
class Finish(
    Message,
    kind="logistic.finish",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="that the fit is over; the covariance of the provider's own coefficients",
):
    """Label holder to provider: keep the coefficients.

    Parameters
    ----------
    covariance : ndarray of float64, shape (f, f), or (0, 0)
        In the provider's own basis; nothing without an exact step.
    """

    covariance: F64x2


@dataclass(frozen=True, eq=False, repr=False)
class Result(
    Message,
    kind="logistic.result",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="with the other providers' shares the sum of their coefficients times their columns' "
    "means; coefficients, standard errors and what leads to the covariance only where the "
    "provider releases them",
):
    """Provider to label holder: what it gives of the result.

    Parameters
    ----------
    shift : ndarray of uint64, shape (1,)
        Σ mean·coefficient in fixed point under a share of zero.
    released : bool
    coef, standard_error : ndarray of float64, shape (dk,), or empty
    map : ndarray of float64, shape (dk, f), or (0, 0)
        Coefficients per unit of a direction.
    """

    shift: U64x1
    released: bool
    coef: F64x1
    standard_error: F64x1
    map: F64x2
