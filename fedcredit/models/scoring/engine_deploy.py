"""A data provider's part in putting a model into service and taking it out again."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcredit.errors import PolicyError, ProtocolError
from fedcredit.governance import usage
from fedcredit.governance.usage import Measure
from fedcredit.models.card_part import CardPart, kept_characteristics
from fedcredit.models.engine_linear import LinearDesign
from fedcredit.models.engine_scorecard import KeptCard, neutral_points
from fedcredit.models.scoring.messages import (
    DeployCommit,
    Deployed,
    DeployJob,
    PartReady,
    WithdrawJob,
)
from fedcredit.models.scoring.served import (
    LinearPart,
    Part,
    ServedModel,
    check_target,
    pack_part,
    part_digest,
    read_served,
    store_served,
    withdraw_served,
)
from fedcredit.models.scoring.trees import ServedTrees
from fedcredit.wire import Peers

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine

__all__ = ["deploy_part", "make_part", "withdraw_part"]

_MODEL = "model"
_STEP = "deploy"
_SALT_BYTES = 32
_MAX_POSITIONS = 1 << 20


async def deploy_part(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: DeployJob
) -> None:
    """Get this party's part ready, hold it to the catalog, and serve it once all are ready."""
    check_target(job.target)
    if job.providers != tuple(dict.fromkeys(job.providers)) or engine.party not in job.providers:
        raise ProtocolError("the job's providers are not those of this session.", step=_STEP)
    part = make_part(engine, job)
    for purpose in job.purposes:
        engine.catalog.require("scoring", part.fields, purpose=purpose)
    packed = pack_part(part, secrets.token_bytes(_SALT_BYTES))
    digest = part_digest(packed)
    await peers[coordinator].send(PartReady(digest))
    commit = await peers[coordinator].recv(DeployCommit)
    header = ServedModel.from_json(commit.header)
    if (header.target, header.kind, header.providers, header.purposes, header.scale_bits) != (
        job.target,
        job.kind_of_model,
        job.providers,
        job.purposes,
        job.scale_bits,
    ) or header.platform != coordinator:
        raise ProtocolError("the header is not what the job announced.", step=_STEP)
    gate, shares = engine.desk.gate, _shares(engine, job)
    measure: Measure = "gain" if job.measure == "gain" else "points"
    entry = gate.note(
        "deploy",
        {
            "target": job.target,
            "digest": header.digest,
            "part": digest,
            "purposes": list(job.purposes),
            "fields": list(part.fields),
            "coordinator": coordinator,
        },
    )
    with gate.ledger.transaction() as tx:
        usage.contributions(tx, job.target, shares, measure, gate.now())
    store_served(engine.store, header, packed)
    await peers[coordinator].send(Deployed(entry))


async def withdraw_part(
    engine: ProviderEngine, peers: Peers, coordinator: str, job: WithdrawJob
) -> None:
    """Serve a model no more."""
    header = read_served(engine.store, job.target, party=engine.party)
    if header.platform != coordinator:
        raise PolicyError("the model was deployed by another platform.", step="withdraw")
    entry = engine.desk.gate.note(
        "withdraw", {"target": job.target, "digest": header.digest, "coordinator": coordinator}
    )
    withdraw_served(engine.store, job.target)
    await peers[coordinator].send(Deployed(entry))


def _shares(engine: ProviderEngine, job: DeployJob) -> dict[str, float]:
    """Return the contributions by column; the platform knows columns by their labels."""
    if len(job.labels) != len(job.shares) or not np.isfinite(job.shares).all():
        raise ProtocolError("the contributions are malformed.", step=_STEP)
    names = engine.labels(engine.offered)
    return {
        names[label]: float(share)
        for label, share in zip(job.labels, job.shares, strict=True)
        if label in names
    }


def make_part(engine: ProviderEngine, job: DeployJob) -> Part:
    """Make the part that this party serves of a model that it keeps.

    Raises
    ------
    ProtocolError
        The model is not known here, or is of another kind.
    """
    if job.kind_of_model == "card":
        return _card_part(engine, job)
    record: dict[str, Any] = json.loads(engine.store.get(_MODEL, job.model_id) or b"{}")
    if job.kind_of_model == "trees" and "share" in record:
        if len(job.positions) > _MAX_POSITIONS:
            raise ProtocolError("the places of the splits are too many.", step=_STEP)
        return ServedTrees.of_provider(engine.party, record, _json(job.positions))
    if job.kind_of_model == "logistic" and "design" in record:
        if record["participants"] != list(job.providers):
            raise PolicyError(
                "a model is scored by all the providers that it was trained with.", step=_STEP
            )
        return _logistic_part(engine, job, record)
    raise ProtocolError(
        "this model is not known here.",
        step=_STEP,
        fix="train it again; the party may have lost or cleared its storage",
    )


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ProtocolError("the places of the splits are malformed.", step=_STEP) from None


def _card_part(engine: ProviderEngine, job: DeployJob) -> LinearPart:
    card = KeptCard.load(engine, job.model_id, step=_STEP)
    if set(card.participants) < set(job.providers):
        raise PolicyError("the card has other providers.", step=_STEP)
    return LinearPart(
        scale_bits=_bits(job.scale_bits),
        card=CardPart.of_provider(engine, job.model_id),
        labels=card.labels,
        neutral=tuple(neutral_points(engine, card, "max")),
        party=engine.party,
    )


def _logistic_part(engine: ProviderEngine, job: DeployJob, record: dict[str, Any]) -> LinearPart:
    design = LinearDesign.from_dict(record["design"])
    coef = [float(value) for value in record["coef"]]
    bits = _bits(job.scale_bits)
    if design.numeric is not None:
        return LinearPart(
            scale_bits=bits, numeric=design.numeric, coef=np.array(coef), party=engine.party
        )
    made = kept_characteristics(
        engine, design.binner_id, design.labels, coef, lambda woe, weight: weight * woe
    )
    card = CardPart(engine.party, job.model_id, made)
    return LinearPart(scale_bits=bits, card=card, labels=design.labels, party=engine.party)


def _bits(value: int) -> int:
    if not 0 <= value <= 24:
        raise ProtocolError("the fixed point of the scores is out of range.", step=_STEP)
    return value
