"""A data provider's part in scorecards: its points, its scores, its reasons, its own table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import PolicyError, ProtocolError
from fedcredit.models.engine_binning import column_names, own_binning_tables, woe_columns
from fedcredit.models.engine_linear import reveal_ledger
from fedcredit.models.scorecard_messages import (
    CardJob,
    CardKept,
    PointsJob,
    ReasonsJob,
    points_session,
)
from fedcredit.models.scorecard_share import row_points
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.protocols.predictor import GRID, predictor_provider
from fedcredit.protocols.reasons import MAX_REASONS, MAX_ROWS, add_up, reasons_provider
from fedcredit.stats.scorecard_points import PointScale
from fedcredit.wire import Peers

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = [
    "KeptCard",
    "explain_rows",
    "keep_card",
    "neutral_points",
    "own_table",
    "score_points",
]

Floats = npt.NDArray[np.float64]

_CARD, _MODEL = "card", "model"
_STEP = "scorecard"
#: Whole points of a card may be so many times finer than log-odds are shown, two bits.
_POINTS_PER_GRID = 4.0


@dataclass(frozen=True, eq=False, repr=False)
class KeptCard:
    """What this party keeps of a card: its characteristics and their coefficients."""

    regression_id: str
    binner_id: str
    participants: tuple[str, ...]
    labels: tuple[str, ...]
    #: Columns of the table, in the order of the labels.
    names: tuple[str, ...]
    coef: tuple[float, ...] = field(repr=False)
    scale: PointScale
    base: float
    rounding: bool

    def points(self, woe: Floats) -> Floats:
        """Return the points of weights of evidence, shape (n, k)."""
        return row_points(woe, self.coef, self.scale, base=self.base, rounding=self.rounding)

    @property
    def digest(self) -> str:
        """What stands in the ledger for all that determines the points, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "regression_id": self.regression_id,
            "binner_id": self.binner_id,
            "participants": list(self.participants),
            "labels": list(self.labels),
            "names": list(self.names),
            "coef": list(self.coef),
            "scale": self.scale.to_dict(),
            "base": self.base,
            "rounding": self.rounding,
        }

    @classmethod
    def load(cls, engine: ProviderEngine, model_id: str, *, step: str = _STEP) -> KeptCard:
        """Read what this party keeps of a card.

        Raises
        ------
        ProtocolError
            Nothing; ``step`` is named in it.
        """
        data = engine.store.get(_CARD, model_id)
        if data is None:
            raise ProtocolError(
                "this scorecard is not known here.",
                step=step,
                fix="fit it again; the party may have lost or cleared its storage",
            )
        plain = json.loads(data)
        return cls(
            regression_id=plain["regression_id"],
            binner_id=plain["binner_id"],
            participants=tuple(plain["participants"]),
            labels=tuple(plain["labels"]),
            names=tuple(plain["names"]),
            coef=tuple(plain["coef"]),
            scale=PointScale(**plain["scale"]),
            base=plain["base"],
            rounding=plain["rounding"],
        )


async def keep_card(engine: ProviderEngine, peers: Peers, coordinator: str, job: CardJob) -> None:
    """Turn this party's coefficients into points and keep them under the card's name."""
    data = engine.store.get(_MODEL, job.regression_id)
    record: dict[str, Any] = {} if data is None else json.loads(data)
    design = record.get("design", {})
    if not job.binner_id or design.get("binner_id") != job.binner_id:
        raise ProtocolError(
            "the card's regression is not known here, or used other weights of evidence.",
            step=_STEP,
            fix="fit the scorecard again",
        )
    if not np.isfinite(job.base):
        raise ProtocolError("the base points are not finite.", step=_STEP)
    scale = PointScale(job.pdo, job.base_score, job.base_odds)
    if job.rounding and not engine.policy.allow_exact_predictor:
        _check_coarse(scale)
    labels = tuple(design["labels"])
    names = column_names(engine, job.binner_id, labels)
    engine.permit(names)
    card = KeptCard(
        regression_id=job.regression_id,
        binner_id=job.binner_id,
        participants=tuple(record["participants"]),
        labels=labels,
        names=names,
        coef=tuple(record["coef"]),
        scale=scale,
        base=job.base,
        rounding=job.rounding,
    )
    written = json.dumps(card.to_dict()).encode()
    if engine.store.get(_CARD, job.model_id) not in (None, written):
        raise ProtocolError(
            "there is another scorecard with this id.", step=_STEP, fix="fit it under a new id"
        )
    engine.store.put(_CARD, job.model_id, written)
    await peers[coordinator].send(CardKept(len(labels)))


def _check_coarse(scale: PointScale) -> None:
    """Refuse points so fine that whole ones are as good as exact log-odds.

    Raises
    ------
    PolicyError
        A point is less than a quarter of what revealed log-odds are rounded to.
    """
    if scale.factor * GRID > _POINTS_PER_GRID:
        most = np.floor(_POINTS_PER_GRID * np.log(2.0) / GRID)
        raise PolicyError(
            "points of this scale are finer than this party shows.",
            step=_STEP,
            fix=f"choose pdo of at most {most:.0f}, or ask for allow_exact_predictor",
        )


async def score_points(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: PointsJob
) -> None:
    """Add this party's points of rows to the sum that the platform gets.

    Each card is a predictor of its own in the ledger: cards of other scales would, together, tell
    the exact log-odds of one regression.
    """
    card = KeptCard.load(engine, job.model_id, step="score")
    if not card.rounding:
        raise ProtocolError(
            "a card without whole points is scored by its regression.",
            step="score",
            fix="run one version at all parties",
        )
    if set(job.participants) != {engine.party, *peers} - {coordinator}:
        raise ProtocolError(
            "the job's participants are not the providers of this session.",
            step="score",
            fix="name every provider of the session once",
        )
    if job.participants != card.participants:
        raise PolicyError(
            "a scorecard gives scores of all its providers together, and of no fewer.",
            step="score",
            fix="align with every provider of the card",
        )
    engine.permit(card.names)
    frame = engine.rows(job.frame_id, job.rows)
    points = card.points(woe_columns(engine, card.binner_id, card.labels, frame)).sum(axis=1)
    others = [name for name in job.participants if name != engine.party]
    zero = await ZeroShares.agree(peers, engine.party, others, points_session(job))
    positions, _ = engine.positions(job.frame_id, job.rows)
    reveal_ledger(engine, frame.shape[1]).charge(
        positions, model_id=job.model_id, digest=card.digest
    )
    await predictor_provider(peers[coordinator], points, zero)


async def explain_rows(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: ReasonsJob
) -> None:
    """Name the characteristics of rows that lose most points, at the grain of this party."""
    card = KeptCard.load(engine, job.model_id, step="reason codes")
    if not (1 <= len(job.rows) <= MAX_ROWS and 1 <= job.n <= MAX_REASONS):
        raise PolicyError(
            f"at most {MAX_ROWS} rows and {MAX_REASONS} reasons are explained at a time.",
            step="reason codes",
            fix="ask for the applicants who need an explanation",
        )
    if job.neutral not in ("max", "mean"):
        raise ProtocolError("the neutral value is unknown.", step="reason codes")
    engine.permit(card.names)
    frame = engine.rows(job.frame_id, job.rows)
    points = card.points(woe_columns(engine, card.binner_id, card.labels, frame))
    losses = np.array(neutral_points(engine, card, job.neutral)) - points
    labels, losses = add_up(losses, engine.called_in_reasons(card.names, card.labels))
    positions, _ = engine.positions(job.frame_id, job.rows)
    # Other reasons of the same rows are something else that is shown of them.
    reveal_ledger(engine, frame.shape[1]).charge(
        positions, model_id=f"{job.model_id}.reasons-{job.neutral}-{job.n}", digest=card.digest
    )
    await reasons_provider(peers[coordinator], losses, labels, job.n)


def _bins(engine: ProviderEngine, card: KeptCard) -> list[pd.DataFrame]:
    """Return the table of every characteristic, with points."""
    tables = own_binning_tables(engine, card.binner_id)
    out = []
    for name, coef in zip(card.names, card.coef, strict=True):
        table = tables[name].copy()
        woe = table["WoE"].to_numpy(np.float64)[:, None]
        table["Points"] = row_points(
            woe, [coef], card.scale, base=card.base, rounding=card.rounding
        ).ravel()
        out.append(table)
    return out


def neutral_points(engine: ProviderEngine, card: KeptCard, kind: str) -> list[float]:
    """Return the points that each characteristic's losses are counted from: the most, or the mean.

    Parameters
    ----------
    engine : ProviderEngine
    card : KeptCard
    kind : {"max", "mean"}
    """
    values = []
    for table in _bins(engine, card):
        points, count = (table[key].to_numpy(np.float64) for key in ("Points", "Count"))
        values.append(float(points @ count / count.sum()) if kind == "mean" else points.max())
    return values


def own_table(engine: ProviderEngine, model_id: str) -> pd.DataFrame:
    """Return this provider's part of a card with the limits of its bins, for its own eyes only.

    Parameters
    ----------
    engine : ProviderEngine
    model_id : str
        ``model_id_`` of the scorecard.

    Returns
    -------
    pandas.DataFrame
        One line per bin with rows: ``feature``, ``bin``, ``count``, ``share``, ``woe``,
        ``coefficient``, ``points``.

    Raises
    ------
    ProtocolError
        The card is not known here.
    """
    card = KeptCard.load(engine, model_id)
    parts = [
        pd.DataFrame(
            {
                "feature": name,
                "bin": table["Bin"],
                "count": table["Count"],
                "share": table["Count (%)"],
                "woe": table["WoE"],
                "coefficient": coef,
                "points": table["Points"].astype("Int64") if card.rounding else table["Points"],
            }
        )
        for name, coef, table in zip(card.names, card.coef, _bins(engine, card), strict=True)
    ]
    columns = ["feature", "bin", "count", "share", "woe", "coefficient", "points"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
