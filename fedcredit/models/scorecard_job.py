"""The platform's sessions around a scorecard: keeping its points, scoring, explaining."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedcredit.errors import PeerProtocolError
from fedcredit.models.federation import Federation
from fedcredit.models.scorecard_messages import CardJob, CardKept, PointsJob, ReasonsJob
from fedcredit.models.scorecard_share import ScorecardShare
from fedcredit.protocols.predictor import predictor_label_holder
from fedcredit.protocols.reasons import Reasons, reasons_label_holder
from fedcredit.wire import Peers

__all__ = ["explain", "hand_out_card", "provider_points"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.uint32]


def hand_out_card(
    federation: Federation,
    share: ScorecardShare,
    *,
    model_id: str,
    frame_id: str,
    regression_id: str,
    binner_id: str,
    providers: Sequence[str],
) -> None:
    """Let every provider with characteristics in a card turn its coefficients into points.

    Raises
    ------
    FedCreditError
        A provider does not know the regression, or cannot be reached.
    """

    async def role(peers: Peers) -> None:
        scale = share.scale
        await peers.broadcast(
            CardJob(
                model_id=model_id,
                frame_id=frame_id,
                regression_id=regression_id,
                binner_id=binner_id,
                pdo=scale.pdo,
                base_score=scale.base_score,
                base_odds=scale.base_odds,
                base=share.spread,
                rounding=share.rounding,
            )
        )
        for name, kept in (await peers.gather(CardKept)).items():
            if kept.characteristics != len(share.of(name)):
                raise PeerProtocolError(
                    "the provider has another number of characteristics in the card.",
                    party=name,
                    step="scorecard",
                    fix="fit the scorecard again",
                )

    if providers:
        federation.run(role, providers=providers, job=f"card-{model_id}", phase="scorecard")


def provider_points(
    federation: Federation,
    *,
    model_id: str,
    frame_id: str,
    rows: Rows,
    providers: Sequence[str],
) -> Floats:
    """Return the sum of the providers' whole points, shape (n,); a revealed predictor per row.

    Parameters
    ----------
    federation : Federation
    model_id, frame_id : str
    rows : ndarray of uint32, shape (n,)
        Strictly ascending positions in the aligned order.
    providers : sequence of str
        All of the card's, in the order of its fit.

    Raises
    ------
    BudgetError
        A provider's limit of revealed predictors is reached.
    FedCreditError
        A provider refuses, or cannot be reached.
    """

    async def role(peers: Peers) -> Floats:
        salt = secrets.token_bytes(32)
        await peers.broadcast(PointsJob(model_id, frame_id, rows, salt, tuple(providers)))
        return await predictor_label_holder(peers, len(rows))

    return federation.run(role, providers=providers, job=f"score-{model_id}", phase="score")


def explain(
    federation: Federation,
    *,
    model_id: str,
    frame_id: str,
    rows: Rows,
    providers: Sequence[str],
    losses: Floats,
    labels: Sequence[str],
    n: int,
    neutral: str,
) -> Reasons:
    """Rank the losses of points of all parties; see :mod:`fedcredit.protocols.reasons`.

    Parameters
    ----------
    federation : Federation
    model_id, frame_id : str
    rows : ndarray of uint32, shape (rows,)
        Strictly ascending positions in the aligned order.
    providers : sequence of str
    losses : ndarray of float64, shape (rows, k)
        Of the platform's own characteristics.
    labels : sequence of str
        Their names.
    n : int
        Reasons per row.
    neutral : {"max", "mean"}

    Raises
    ------
    BudgetError
        A provider's limit of revealed predictors is reached.
    FedCreditError
        A provider refuses, or cannot be reached.
    """

    async def role(peers: Peers) -> Reasons:
        await peers.broadcast(ReasonsJob(model_id, frame_id, rows, n, neutral))
        return await reasons_label_holder(peers, federation.platform, losses, labels, n)

    return federation.run(
        role, providers=providers, job=f"reasons-{model_id}", phase="reason codes"
    )
