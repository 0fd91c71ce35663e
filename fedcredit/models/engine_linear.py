"""A data provider's part in linear models: training, scoring and correlations behind its policy."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.crypto.prg import prg_u64
from fedcredit.errors import BudgetError, InputError, PolicyError, ProtocolError
from fedcredit.models.engine_binning import column_names, woe_columns
from fedcredit.models.linear_columns import NumericColumns, check_columns, fit_numeric
from fedcredit.models.linear_jobs import (
    GramJob,
    LinearColumns,
    LinearJob,
    LinearScoreJob,
    LinearStart,
    LinearUnits,
    session_of,
)
from fedcredit.models.reveal_ledger import RevealLedger
from fedcredit.protocols.encrypted_sums import SumServer
from fedcredit.protocols.gram_provider import gram_provider
from fedcredit.protocols.logistic_provider import logistic_provider
from fedcredit.protocols.logistic_types import LogisticLimits, LogisticParams
from fedcredit.protocols.pairwise import ZeroShares
from fedcredit.protocols.predictor import GRID, coarsened, predictor_provider
from fedcredit.wire import Peers

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = [
    "LinearDesign",
    "correlate_linear",
    "model_digest",
    "reveal_ledger",
    "score_linear",
    "train_linear",
]

Floats = npt.NDArray[np.float64]
_MODEL = "model"
_KIND = "logistic"
#: Where a provider counts the columns of the platform that it was correlated with.
_CORRELATED = ("correlated", "columns")
#: Sessions of one party may run side by side; reading, checking and writing is one act.
_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False)
class LinearDesign:
    """Own columns of one model: WOE columns of a binner, or numbers."""

    labels: tuple[str, ...]
    binner_id: str
    numeric: NumericColumns | None

    def names(self, engine: ProviderEngine) -> tuple[str, ...]:
        """Return the columns of the table that these are made of."""
        if self.numeric is None:
            return column_names(engine, self.binner_id, self.labels)
        return self.numeric.names

    def matrix(self, engine: ProviderEngine, frame: pd.DataFrame) -> Floats:
        """Return the rows' columns, shape (n, d)."""
        if self.numeric is None:
            return woe_columns(engine, self.binner_id, self.labels, frame)
        with engine.only_labels(frame):
            return self.numeric.matrix(frame, party=engine.party)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "labels": list(self.labels),
            "binner_id": self.binner_id,
            "numeric": self.numeric and self.numeric.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LinearDesign:
        """Rebuild from :meth:`to_dict`."""
        numeric = data["numeric"] and NumericColumns.from_dict(data["numeric"])
        return cls(tuple(data["labels"]), str(data["binner_id"]), numeric)


def reveal_ledger(engine: ProviderEngine, offered: int) -> RevealLedger:
    """Return the account of a party's revealed predictors.

    Parameters
    ----------
    engine : ProviderEngine
    offered : int
        Features that the party offers, half of which is the limit if the policy sets none.
    """
    limit = engine.policy.max_revealed_predictors
    return RevealLedger(
        engine.store, max(1, offered // 2) if limit is None else limit, party=engine.party
    )


def model_digest(record: dict[str, Any]) -> str:
    """Return what stands in the account of reveals for a model's coefficients, in hexadecimal.

    Parameters
    ----------
    record : dict
        As the store keeps it under the model's id.
    """
    return hashlib.sha256(json.dumps([record["design"], record["coef"]]).encode()).hexdigest()


async def train_linear(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: LinearJob
) -> None:
    """Take part in the training of a logistic regression."""
    _check_participants(engine, peers, coordinator, job.participants)
    if not 0 <= job.clip_quantile < 0.5:
        raise ProtocolError("the share to clip is out of range.", step="train")
    frame = engine.rows(job.frame_id, job.rows)
    if len(frame) < engine.policy.min_intersection:
        raise PolicyError(
            f"a model needs at least {engine.policy.min_intersection} rows here.",
            step="train",
            fix="train on more rows",
        )
    design = _design(engine, frame, job.columns, job.binner_id, job.clip_quantile)
    engine.permit(design.names(engine), rows=len(frame))
    columns = design.matrix(engine, frame)
    is_free = np.inf == job.C
    check_columns(columns, design.labels, party=engine.party, dependent=not is_free)
    positions, _ = engine.positions(job.frame_id, job.rows)
    ledger = reveal_ledger(engine, len(frame.columns))
    left = ledger.left(positions)
    if left == 0 and (job.reveal_predictor or job.polish_steps):
        raise BudgetError(
            f"0 of {ledger.limit} reveals are left for these rows.",
            step="train",
            fix="fit with polish_steps=0, which reveals nothing, or use other rows; the data "
            "owner may raise max_revealed_predictors",
        )
    await peers[coordinator].send(LinearColumns(design.labels, left))
    start = await peers[coordinator].recv(LinearStart)
    params = LogisticParams(
        C=job.C,
        l1_ratio=job.l1_ratio,
        reveal_predictor=job.reveal_predictor,
        polish_steps=job.polish_steps,
        max_reveals=start.max_reveals,
        tol=job.tol,
        max_iter=job.max_iter,
    )
    fitted = await logistic_provider(
        peers,
        coordinator,
        job.participants,
        engine.party,
        columns,
        params,
        LogisticLimits(
            max_reveals=min(start.max_reveals, left),
            release_coefficients=engine.policy.release_coefficients,
            exact_predictors=engine.policy.allow_exact_predictor,
        ),
        salt=session_of(job, also=[job.binner_id]),
        signs=_signs(design.labels, job),
        names=[repr(label) for label in design.labels],
        on_reveal=lambda: _charge(ledger, positions),
        threads=engine.threads,
        on_progress=engine.progress,
    )
    error = fitted.standard_error
    record = {
        "kind": _KIND,
        "participants": list(job.participants),
        "design": design.to_dict(),
        "coef": fitted.coef.tolist(),
        "standard_error": None if error is None else error.tolist(),
        "rounding": secrets.token_hex(32),
    }
    engine.store.put(_MODEL, job.model_id, json.dumps(record).encode())
    await peers[coordinator].send(_units(engine, design))


async def score_linear(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: LinearScoreJob
) -> None:
    """Add this party's part of a model to the sum that the label holder gets."""
    _check_participants(engine, peers, coordinator, job.participants)
    record = _record(engine, job)
    design = LinearDesign.from_dict(record["design"])
    engine.permit(design.names(engine))
    coef = np.array(record["coef"], np.float64)
    frame = engine.rows(job.frame_id, job.rows)
    part = design.matrix(engine, frame) @ coef
    positions, _ = engine.positions(job.frame_id, job.rows)
    others = [name for name in job.participants if name != engine.party]
    zero = await ZeroShares.agree(peers, engine.party, others, session_of(job))
    if not engine.policy.allow_exact_predictor:
        part = coarsened(part, GRID, _uniform(bytes.fromhex(record["rounding"]), positions))
    reveal_ledger(engine, len(frame.columns)).charge(
        positions, model_id=job.model_id, digest=model_digest(record)
    )
    await predictor_provider(peers[coordinator], part, zero)


async def correlate_linear(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: GramJob
) -> None:
    """Take part in the correlations of all parties' columns."""
    if not engine.policy.release_correlations:
        raise PolicyError(
            "correlations are not released here.",
            step="correlations",
            fix="ask the data owner for release_correlations, or leave its features out",
        )
    _check_participants(engine, peers, coordinator, job.participants)
    frame = engine.rows(job.frame_id, job.rows)
    if len(frame) < engine.policy.min_intersection:
        raise PolicyError(
            f"correlations need at least {engine.policy.min_intersection} rows here.",
            step="correlations",
            fix="use more rows",
        )
    design = _design(engine, frame, job.columns, job.binner_id, 0.0)
    engine.permit(design.names(engine), rows=len(frame))
    columns = design.matrix(engine, frame)
    check_columns(columns, design.labels, party=engine.party, dependent=True)
    columns = columns - columns.mean(axis=0)
    columns /= np.sqrt((columns**2).mean(axis=0))
    _charge_correlations(engine, job.own_columns)
    await peers[coordinator].send(LinearColumns(design.labels, 0))
    others = [name for name in job.participants if name != engine.party]
    session = session_of(job, also=[job.binner_id])
    zero = await ZeroShares.agree(peers, engine.party, others, session)
    server = await SumServer.open(peers[coordinator], n_rows=len(frame), threads=engine.threads)
    await gram_provider(
        peers,
        coordinator,
        job.participants,
        engine.party,
        server,
        columns,
        zero,
        max_own_columns=job.own_columns,
    )


def _charge_correlations(engine: ProviderEngine, own_columns: int) -> None:
    """Count the label holder's columns that this party's are multiplied with, over all jobs.

    A column of the label holder is encrypted. One that is 1 on a single row and 0 elsewhere would
    read that row's values off the products, so their number is an allowance of rows.
    """
    limit = engine.policy.max_correlated_columns
    with _LOCK:
        data = engine.store.get(*_CORRELATED)
        used = 0 if data is None else int(data)
        if not 0 <= own_columns <= limit - used:
            raise BudgetError(
                f"{max(limit - used, 0)} of {limit} columns of the platform are left for "
                "correlations.",
                step="correlations",
                fix="select without correlations (max_correlation=None, max_vif=None), or ask the "
                "data owner for more (max_correlated_columns)",
            )
        engine.store.put(*_CORRELATED, str(used + own_columns).encode())


def _check_participants(
    engine: ProviderEngine, peers: Peers, coordinator: str, participants: Sequence[str]
) -> None:
    """See that the job names exactly the providers of this session, this party among them."""
    expected = {engine.party, *peers} - {coordinator}
    if len(set(participants)) != len(participants) or set(participants) != expected:
        raise ProtocolError(
            "the job's participants are not the providers of this session.",
            step="linear model",
            fix="name every provider of the session once",
        )


def _design(
    engine: ProviderEngine,
    frame: pd.DataFrame,
    columns: Sequence[str],
    binner_id: str,
    clip_quantile: float,
) -> LinearDesign:
    offered = list(frame.columns)
    if binner_id:
        engine.chosen(columns, offered)
        return LinearDesign(tuple(columns), binner_id, None)
    names = engine.chosen(columns, offered)
    labels = {name: label for label, name in engine.labels(offered).items()}
    categorical = [name for name in names if name in engine.categorical]
    if categorical:
        listed = ", ".join(repr(labels[name]) for name in categorical)
        raise InputError(
            f"the columns {listed} are categorical.",
            step="linear model: columns",
            fix="bin them: use a VerticalBinner; or leave them out of features",
        )
    with engine.only_labels(frame):
        numeric = fit_numeric(
            engine.whole_table(names), names, party=engine.party, clip_quantile=clip_quantile
        )
    return LinearDesign(tuple(labels[name] for name in names), "", numeric)


def _signs(labels: Sequence[str], job: LinearJob) -> list[int] | None:
    if len(job.signed) != len(job.signs) or set(job.signs) - {-1, 1}:
        raise ProtocolError("the sign constraints are malformed.", step="train")
    unknown = sorted(set(job.signed) - set(labels))
    if unknown:
        raise InputError(
            f"a sign is set for features that the model does not use: {', '.join(unknown)}.",
            step="train",
            fix="add them to features, or take them out of sign_constraints",
        )
    signs = dict(zip(job.signed, job.signs, strict=True))
    return [signs.get(label, 0) for label in labels] if signs else None


def _charge(ledger: RevealLedger, positions: npt.NDArray[np.int64]) -> None:
    ledger.charge(positions)


def _uniform(key: bytes, positions: npt.NDArray[np.int64]) -> Floats:
    """Return numbers in [0, 1) that are the same for the same row of the table, and secret."""
    drawn = prg_u64(key, int(positions.max()) + 1)[positions]
    return np.asarray((drawn >> np.uint64(11)) * 2.0**-53)


def _units(engine: ProviderEngine, design: LinearDesign) -> LinearUnits:
    if not engine.policy.release_coefficients:
        return LinearUnits(np.zeros(0), np.zeros(0))
    if design.numeric is None:
        d = len(design.labels)
        return LinearUnits(np.zeros(d), np.ones(d))
    return LinearUnits(design.numeric.centre, design.numeric.scale)


def _record(engine: ProviderEngine, job: LinearScoreJob) -> dict[str, Any]:
    data = engine.store.get(_MODEL, job.model_id)
    record: dict[str, Any] = {} if data is None else json.loads(data)
    if record.get("kind") != _KIND:
        raise ProtocolError(
            "this model is not known here.",
            step="predict",
            fix="train it again; the party may have lost or cleared its storage",
        )
    if record["participants"] != list(job.participants):
        raise PolicyError(
            "a model is scored by all the providers that it was trained with, and no others.",
            step="predict",
            fix="align with every provider of the model",
        )
    return record
