"""The messages around a scorecard: its points, its scores and its reasons.

The regression underneath has its own jobs in :mod:`fedcredit.models.linear_jobs`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from fedcredit.wire import Message, U32x1

__all__ = ["CardJob", "CardKept", "PointsJob", "ReasonsJob", "points_session"]

_ROWS_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class CardJob(
    Message,
    kind="card.points",
    version=1,
    max_bytes=8 << 20,
    reveals="the scale of a scorecard and, if the base points are spread, the intercept; with the "
    "weights of evidence, which the provider holds, its share of events",
):
    """Label holder to provider: turn your part of a regression into points.

    ``model_id`` names the card, ``frame_id`` the alignment of its rows, ``regression_id`` the
    regression and ``binner_id`` the weights of evidence whose columns it used. ``pdo``,
    ``base_score`` and ``base_odds`` are those of
    :class:`~fedcredit.stats.scorecard_points.PointScale`, ``base`` is what every characteristic
    gets of the base points (0 if they are not spread), ``rounding`` whether points are whole.
    """

    model_id: str
    frame_id: str
    regression_id: str
    binner_id: str
    pdo: float
    base_score: float
    base_odds: float
    base: float
    rounding: bool


@dataclass(frozen=True, eq=False, repr=False)
class CardKept(
    Message,
    kind="card.kept",
    version=1,
    max_bytes=8 << 20,
    reveals="how many characteristics of the card are the provider's, which is known from the fit",
):
    """Provider to label holder: the points are stored; ``characteristics`` of them."""

    characteristics: int


@dataclass(frozen=True, eq=False, repr=False)
class PointsJob(
    Message,
    kind="card.score",
    version=1,
    max_bytes=_ROWS_LIMIT,
    reveals="which aligned rows are scored with which card",
):
    """Label holder to provider: your points of these rows, for the masked sum.

    ``participants`` are all providers with characteristics in the card: no sum over fewer is
    ever given.
    """

    model_id: str
    frame_id: str
    rows: U32x1
    salt: bytes
    participants: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class ReasonsJob(
    Message,
    kind="card.reasons",
    version=1,
    max_bytes=1 << 20,
    reveals="which rows are explained with which card, and by how many reasons",
):
    """Label holder to provider: your ``n`` largest losses of points for each of these rows.

    ``neutral`` is ``"max"`` or ``"mean"``: what a characteristic's points are compared with.
    """

    model_id: str
    frame_id: str
    rows: U32x1
    n: int
    neutral: str


def points_session(job: PointsJob) -> bytes:
    """Return the name of a scoring session, 32 bytes: SHA-256 over what all providers share."""
    common = [
        job.kind,
        job.model_id,
        job.frame_id,
        hashlib.sha256(job.rows.astype("<u4").tobytes()).hexdigest(),
        job.salt.hex(),
        list(job.participants),
    ]
    return hashlib.sha256(json.dumps(common).encode()).digest()
