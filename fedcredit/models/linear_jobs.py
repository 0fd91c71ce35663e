"""The messages around a linear model's protocols: its jobs, and what a provider answers.

Every job names all providers that take part, in the label holder's order. They derive the masks
between them from everything that the job's messages must have in common (:func:`session_of`), so
a label holder that sends different jobs to different providers gets sums whose masks do not
cancel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from fedcredit.wire import F64x1, Message, U32x1

__all__ = [
    "GramJob",
    "LinearColumns",
    "LinearJob",
    "LinearScoreJob",
    "LinearStart",
    "LinearUnits",
    "session_of",
]

_ROWS_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class LinearJob(
    Message,
    kind="linear.train",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows a linear model is trained on, its columns here and its penalty",
):
    """Label holder to provider: train a logistic regression.

    ``rows`` (n,) are positions in the aligned order of ``frame_id``, strictly ascending.
    ``columns`` names the features to use (empty: all), ``signed`` those whose coefficient is held
    to a sign of ``signs``. ``binner_id`` names the binner whose WOE columns are used; empty for
    the columns themselves, clipped at ``clip_quantile`` from either end of the table's values
    (0: not clipped). ``C``, ``l1_ratio``, ``reveal_predictor``, ``polish_steps``, ``tol`` and
    ``max_iter`` are those of :class:`~fedcredit.protocols.logistic.LogisticParams`.
    """

    model_id: str
    frame_id: str
    rows: U32x1
    salt: bytes
    participants: tuple[str, ...]
    columns: tuple[str, ...]
    signed: tuple[str, ...]
    signs: tuple[int, ...]
    binner_id: str
    clip_quantile: float
    C: float
    l1_ratio: float
    reveal_predictor: bool
    polish_steps: int
    tol: float
    max_iter: int


@dataclass(frozen=True, eq=False, repr=False)
class LinearColumns(
    Message,
    kind="linear.columns",
    version=1,
    max_bytes=8 << 20,
    reveals="labels of the provider's columns in a model (numbers unless released), and how many "
    "predictors it will still reveal for the job's rows",
):
    """Provider to label holder: the columns it brings, in their order.

    ``reveals_left`` is the smallest number over the job's rows.
    """

    labels: tuple[str, ...]
    reveals_left: int


@dataclass(frozen=True, eq=False, repr=False)
class LinearStart(
    Message,
    kind="linear.start",
    version=1,
    max_bytes=4 << 10,
    reveals="how many predictors the fit may reveal",
):
    """Label holder to provider: begin. ``max_reveals`` binds all parties."""

    max_reveals: int


@dataclass(frozen=True, eq=False, repr=False)
class LinearUnits(
    Message,
    kind="linear.units",
    version=1,
    max_bytes=8 << 20,
    reveals="if the provider releases coefficients: the unit and the centre of each of its "
    "columns, two digits of their standard deviation and mean over its whole table",
):
    """Provider to label holder, at the end of a fit: its share is stored.

    ``centre`` and ``scale`` are of shape (d_k,), or (0,) from a provider that keeps its
    coefficients to itself.
    """

    centre: F64x1
    scale: F64x1


@dataclass(frozen=True, eq=False, repr=False)
class LinearScoreJob(
    Message,
    kind="linear.score",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows are scored, and with which model",
):
    """Label holder to provider: add its part of ``model_id`` on these rows to the masked sum.

    ``participants`` are all providers of the model: no sum over fewer is ever given.
    """

    model_id: str
    frame_id: str
    rows: U32x1
    salt: bytes
    participants: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class GramJob(
    Message,
    kind="linear.gram",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="on which aligned rows correlations are taken, of which columns here, and with how "
    "many of the platform's",
):
    """Label holder to provider: take part in the correlations of all parties' columns.

    ``own_columns`` is the number of the label holder's; the other fields are those of
    :class:`LinearJob`.
    """

    frame_id: str
    rows: U32x1
    salt: bytes
    participants: tuple[str, ...]
    columns: tuple[str, ...]
    binner_id: str
    own_columns: int


def session_of(job: LinearJob | LinearScoreJob | GramJob, *, also: Sequence[object] = ()) -> bytes:
    """Return the name of a job's session, 32 bytes: SHA-256 over what all providers must share.

    Parameters
    ----------
    job : LinearJob, LinearScoreJob or GramJob
    also : sequence
        Further JSON-able parts.
    """
    common = [
        job.kind,
        getattr(job, "model_id", ""),
        job.frame_id,
        hashlib.sha256(job.rows.astype("<u4").tobytes()).hexdigest(),
        job.salt.hex(),
        list(job.participants),
        *also,
    ]
    return hashlib.sha256(json.dumps(common).encode()).digest()
