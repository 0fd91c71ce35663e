"""The platform puts a fitted model into service: all parties get their parts ready, then serve.

::

    platform                                             each provider of the model
      DeployJob{name@version, model, purposes, places} ----->   catalog: every field of its part is
                                                                open for scoring, for each purpose
                              <-----  PartReady{digest}
      DeployCommit{header with the digest of all}      ----->   keeps header and part, logs it
                              <-----  Deployed{entry}

A provider that refuses leaves the model unserved everywhere: nothing is kept before the commit.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcredit.errors import InputError
from fedcredit.governance.question import check_purpose
from fedcredit.models.card_part import CardPart
from fedcredit.models.scoring.contribution import contributions_of
from fedcredit.models.scoring.messages import (
    DeployCommit,
    Deployed,
    DeployJob,
    PartReady,
    WithdrawJob,
)
from fedcredit.models.scoring.served import (
    CARD_BITS,
    LOG_ODDS_BITS,
    Band,
    LinearPart,
    OwnFeature,
    Part,
    ServedModel,
    check_target,
    pack_part,
    part_digest,
    read_served,
    store_served,
    withdraw_served,
)
from fedcredit.models.scoring.trees import forest_parts
from fedcredit.wire import Peers

if TYPE_CHECKING:
    from fedcredit.models.federation import Federation

__all__ = ["deploy", "withdraw"]

_STEP = "deploy"
_SALT_BYTES = 32


def deploy(
    federation: Federation,
    model: Any,
    target: str,
    *,
    purposes: Sequence[str] = ("credit_granting",),
    bands: Mapping[str, float] | None = None,
    fallback: str = "",
    own_features: Sequence[str] = (),
) -> ServedModel:
    """Serve a fitted model; see :meth:`fedcredit.Federation.deploy`."""
    check_target(target)
    for purpose in purposes:
        check_purpose(purpose)
    if not purposes:
        raise InputError("a model is served for at least one purpose.", step=_STEP)
    if fallback:
        read_served(federation.store, fallback, party=federation.platform)
    header, part, places = _own_part(federation, model, target, tuple(own_features))
    header = replace(
        header,
        purposes=tuple(purposes),
        bands=_bands(bands),
        fallback=fallback,
        deployed=float(int(time.time())),
    )
    packed = pack_part(part, secrets.token_bytes(_SALT_BYTES))
    shares, measure = contributions_of(model)

    async def role(peers: Peers) -> ServedModel:
        for name, peer in peers.items():
            own = {label: share for (party, label), share in shares.items() if party == name}
            await peer.send(
                DeployJob(
                    target=target,
                    kind_of_model=header.kind,
                    model_id=model.model_id_,
                    providers=header.providers,
                    purposes=header.purposes,
                    scale_bits=header.scale_bits,
                    positions=places.get(name, b""),
                    labels=tuple(own),
                    shares=np.array(list(own.values()), np.float64),
                    measure=measure,
                )
            )
        ready = await peers.gather(PartReady)
        digests = {name: reply.digest for name, reply in ready.items()}
        digests[federation.platform] = part_digest(packed)
        complete = replace(header, digest=header.digest_of(digests))
        # The platform first: a name that is taken is found before any provider keeps anything.
        store_served(federation.store, complete, packed)
        await peers.broadcast(DeployCommit(complete.to_json()))
        await peers.gather(Deployed)
        return complete

    if header.providers:
        return federation.run(role, providers=header.providers, job=f"deploy-{target}", phase=_STEP)
    complete = replace(header, digest=header.digest_of({federation.platform: part_digest(packed)}))
    store_served(federation.store, complete, packed)
    return complete


def withdraw(federation: Federation, target: str) -> None:
    """Serve a model no more, at any party; see :meth:`fedcredit.Federation.withdraw`."""
    header = read_served(federation.store, target, party=federation.platform)

    async def role(peers: Peers) -> None:
        await peers.broadcast(WithdrawJob(target))
        await peers.gather(Deployed)

    # The platform first: without it nothing is scored, even if a provider is away now.
    withdraw_served(federation.store, target)
    if header.providers:
        federation.run(role, providers=header.providers, job=f"withdraw-{target}", phase="withdraw")


def _bands(bands: Mapping[str, float] | None) -> tuple[Band, ...]:
    made = tuple(Band(str(name), float(low)) for name, low in (bands or {}).items())
    lows = [band.low for band in made]
    if lows != sorted(set(lows)) or any(np.isnan(low) for low in lows):
        raise InputError(
            "the bands do not rise.",
            step=_STEP,
            fix='give the lowest score of each band, ascending: {"D": 0, "C": 550, "B": 600}',
        )
    return made


def _own_part(
    federation: Federation, model: Any, target: str, own_features: tuple[str, ...]
) -> tuple[ServedModel, Part, dict[str, bytes]]:
    """Return the header so far, the platform's part, and what each provider must be told."""
    # By name, because the estimators import the federation, which imports this module.
    from fedcredit.models.gbdt_base import BaseVerticalGBDT
    from fedcredit.models.logistic import VerticalLogisticRegression
    from fedcredit.models.scorecard import VerticalScorecard

    if own_features and not isinstance(model, VerticalScorecard):
        raise InputError(
            "only a scorecard takes features that the institution supplies.",
            step=_STEP,
            fix="leave own_features empty",
        )
    providers = tuple(getattr(model, "providers_", ()))
    common: dict[str, Any] = {
        "target": target,
        "digest": "",
        "platform": federation.platform,
        "purposes": (),
    }
    if isinstance(model, VerticalScorecard):
        part, supplied = _card_part(model, own_features)
        used = tuple(name for name in providers if model.share_.of(name))
        header = ServedModel(
            kind="card",
            providers=used,
            scale_bits=part.scale_bits,
            event=str(model.event_),
            points=model.share_.scale.to_dict(),
            own_features=supplied,
            **common,
        )
        return header, part, {}
    if isinstance(model, VerticalLogisticRegression):
        header = ServedModel(
            kind="logistic",
            providers=providers,
            scale_bits=LOG_ODDS_BITS,
            event=str(model.classes_[1]),
            **common,
        )
        return header, _logistic_part(model), {}
    if isinstance(model, BaseVerticalGBDT):
        part_of_trees, places = forest_parts(model)
        header = ServedModel(
            kind="trees",
            providers=tuple(places),
            scale_bits=part_of_trees.scale_bits,
            event=str(model.classes_[1]) if hasattr(model, "classes_") else "",
            trees=part_of_trees.n_trees,
            leaves=part_of_trees.n_leaves,
            **common,
        )
        told = {name: json.dumps(where).encode() for name, where in places.items()}
        return header, part_of_trees, told
    raise InputError(
        "this kind of model cannot be served.",
        step=_STEP,
        fix="serve a scorecard, a logistic regression or boosted trees",
    )


def _card_part(
    model: Any, own_features: tuple[str, ...]
) -> tuple[LinearPart, tuple[OwnFeature, ...]]:
    whole = CardPart.of_platform(model)
    known = {c.label: c for c in model.share_.of(model.platform_)}
    names = [name.removeprefix(f"{model.platform_}.") for name in own_features]
    unknown = sorted(set(names) - set(whole.names))
    if unknown or len(set(names)) != len(names):
        raise InputError(
            f"the platform's part of the card has no characteristics {', '.join(unknown)}."
            if unknown
            else "a feature is named twice in own_features.",
            step=_STEP,
            fix="name the platform's own characteristics of the card",
        )
    own = tuple(c for c in whole.characteristics if c.name not in names)
    given = tuple(c for c in whole.characteristics if c.name in names)
    bits = 0 if model.share_.rounding else CARD_BITS
    part = LinearPart(
        scale_bits=bits,
        card=replace(whole, characteristics=own),
        labels=tuple(c.name for c in own),
        neutral=tuple(known[c.name].neutral("max") for c in own),
        supplied=replace(whole, characteristics=given, base_points=0.0) if given else None,
        party=model.platform_,
    )
    features = tuple(OwnFeature(c.name, c.rule.to_dict(), c.categories) for c in given)
    return part, features


def _logistic_part(model: Any) -> LinearPart:
    share = model.share_
    if model.binner_ is None:
        return LinearPart(
            scale_bits=LOG_ODDS_BITS,
            numeric=share.numeric,
            coef=np.asarray(share.weights, np.float64),
            constant=float(share.constant),
            party=share.platform,
        )
    card = CardPart.of_regression(model)
    return LinearPart(scale_bits=LOG_ODDS_BITS, card=card, labels=card.names, party=share.platform)
