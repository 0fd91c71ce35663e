"""What a party keeps of a model that is served to institutions: its header and its own part.

A model is deployed under a name and a version, ``name@version``, which never change their meaning:
another model needs another version. The header is the same at every party, and its digest binds
the parts of all; the part is the party's own and holds what its addend needs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError, Refusal
from fedcredit.models.card_part import CardPart
from fedcredit.models.linear_columns import NumericColumns
from fedcredit.models.scoring.trees import ServedTrees
from fedcredit.models.store import Store

__all__ = [
    "CARD_BITS",
    "LOG_ODDS_BITS",
    "Band",
    "LinearPart",
    "OwnFeature",
    "Part",
    "ServedModel",
    "check_target",
    "load_part",
    "pack_part",
    "part_digest",
    "read_served",
    "served_targets",
    "store_served",
    "withdraw_served",
]

Kind = Literal["card", "logistic", "trees"]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_HEADER, _PART = "served", "served-part"
_STEP = "served model"
#: Fixed point of log-odds, and of points that are not whole: fractions of 2^-20 and 2^-12.
LOG_ODDS_BITS = 20
CARD_BITS = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class Band:
    """A band of scores: those of at least ``low`` and below the next band's."""

    name: str
    low: float


@dataclass(frozen=True)
class OwnFeature:
    """A characteristic whose value the institution supplies, encrypted.

    ``rule`` and ``categories`` say how a value is put into its bin (see
    :class:`~fedcredit.stats.bin_rule.BinRule`); the points of the bins stay with the platform.
    """

    name: str
    rule: dict[str, Any] = field(repr=False)
    categories: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ServedModel:
    """The header of a served model.

    Attributes
    ----------
    target : str
        ``name@version``.
    kind : {"card", "logistic", "trees"}
        What the score is: points, log-odds of the event, or the raw score of a forest.
    digest : str
        SHA-256 over the header without it and the digests of all parts, in hexadecimal.
    platform : str
    providers : tuple of str
        The providers whose parts a score needs.
    purposes : tuple of str
        What the model is served for.
    scale_bits : int
        A score is a whole number of ``2**-scale_bits``.
    event : str
        What log-odds and raw scores are about: the class of the training labels, as text.
    bands : tuple of Band
        Ascending; empty for none.
    points : dict
        pdo, base_score and base_odds of a card's points; empty otherwise.
    trees, leaves : int
        Of a forest: trees, and leaves of each when padded to full depth; 0 otherwise.
    fallback : str
        Model to use instead, flagged, when a provider is away; empty for none.
    own_features : tuple of OwnFeature
        What the institution supplies itself.
    deployed : float
        Seconds since the epoch.
    """

    target: str
    kind: Kind
    digest: str
    platform: str
    providers: tuple[str, ...]
    purposes: tuple[str, ...]
    scale_bits: int
    event: str = ""
    bands: tuple[Band, ...] = ()
    points: dict[str, float] = field(default_factory=dict)
    trees: int = 0
    leaves: int = 0
    fallback: str = ""
    own_features: tuple[OwnFeature, ...] = ()
    deployed: float = 0.0

    @property
    def parties(self) -> tuple[str, ...]:
        """The platform and the providers."""
        return (self.platform, *self.providers)

    def band_of(self, score: float) -> str:
        """Return the name of the band that a score falls into; empty without bands."""
        name = self.bands[0].name if self.bands else ""
        for band in self.bands:
            if score >= band.low:
                name = band.name
        return name

    def to_json(self) -> str:
        """Return canonical JSON."""
        return self._json

    @functools.cached_property
    def _json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @functools.cached_property
    def header_digest(self) -> str:
        """SHA-256 of :meth:`to_json`, in hexadecimal; stands in every party's statement."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    @classmethod
    @functools.lru_cache(maxsize=64)
    def from_json(cls, text: str | bytes) -> ServedModel:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        InputError
            It is something else.
        """
        try:
            data = json.loads(text)
            if set(data) != set(cls.__dataclass_fields__) or data["kind"] not in get_args(Kind):
                raise ValueError
            return cls(
                target=check_target(str(data["target"])),
                kind=data["kind"],
                digest=str(data["digest"]),
                platform=str(data["platform"]),
                providers=tuple(map(str, data["providers"])),
                purposes=tuple(map(str, data["purposes"])),
                scale_bits=int(data["scale_bits"]),
                event=str(data["event"]),
                bands=tuple(Band(str(b["name"]), float(b["low"])) for b in data["bands"]),
                points={str(k): float(v) for k, v in data["points"].items()},
                trees=int(data["trees"]),
                leaves=int(data["leaves"]),
                fallback=str(data["fallback"]),
                own_features=tuple(
                    OwnFeature(
                        str(f["name"]),
                        dict(f["rule"]),
                        None if f["categories"] is None else tuple(map(str, f["categories"])),
                    )
                    for f in data["own_features"]
                ),
                deployed=float(data["deployed"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(
                "this is no header of a served model.",
                step=_STEP,
                fix="run one release of fedcredit at all parties, and deploy the model again",
            ) from None

    def digest_of(self, parts: dict[str, str]) -> str:
        """Return the digest that binds this header and the parts' digests by party."""
        data = {**asdict(self), "digest": "", "parts": parts}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def check_target(target: str) -> str:
    """Return ``target`` if it is ``name@version``.

    Raises
    ------
    InputError
        It is not.
    """
    name, at, version = target.partition("@")
    if not (at and _NAME.fullmatch(name) and _VERSION.fullmatch(version)):
        raise InputError(
            "a served model is called name@version.",
            step=_STEP,
            fix="use lower-case letters, digits and ._- in the name, for instance sme-card@1",
        )
    return target


# ------------------------------------------------------------------------------------- parts


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A party's part of a score that is a sum: points of a card, or log-odds.

    Attributes
    ----------
    card : CardPart or None
        Of a scorecard, or of a regression on weights of evidence.
    labels : tuple of str
        What each characteristic may be called elsewhere.
    neutral : tuple of float
        Points that each characteristic's losses are counted from; empty without reasons.
    supplied : CardPart or None
        The platform's points of characteristics whose values an institution supplies, encrypted.
    numeric, coef, constant
        Of a regression on numbers.
    scale_bits : int
    """

    scale_bits: int
    card: CardPart | None = None
    labels: tuple[str, ...] = ()
    neutral: tuple[float, ...] = field(default=(), repr=False)
    supplied: CardPart | None = None
    numeric: NumericColumns | None = field(default=None, repr=False)
    coef: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    constant: float = field(default=0.0, repr=False)
    party: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the part needs."""
        if self.card is not None:
            return self.card.names
        return () if self.numeric is None else self.numeric.names

    def values(self, frame: pd.DataFrame) -> Integers:
        """Return the addend of every row in fixed point, shape (n,)."""
        if self.card is not None:
            total = self.card.points(frame)
        elif self.numeric is not None:
            # Who has no record, or a gap in it, gets the average enterprise's value.
            centre = dict(zip(self.numeric.names, self.numeric.centre.tolist(), strict=True))
            filled = frame[list(self.numeric.names)].fillna(centre)
            total = self.numeric.matrix(filled, party=self.party) @ self.coef + self.constant
        else:
            total = np.full(len(frame), self.constant)
        return np.rint(total * 2.0**self.scale_bits).astype(np.int64)

    def supplied_weights(self) -> Integers:
        """Return the points of all bins of the supplied characteristics in fixed point, in a row.

        Bins of one characteristic after those of another, in the order of the header's
        ``own_features``.
        """
        assert self.supplied is not None
        points = [c.points for c in self.supplied.characteristics]
        return np.rint(np.concatenate(points) * 2.0**self.scale_bits).astype(np.int64)

    def losses(self, frame: pd.DataFrame) -> Floats:
        """Return the points that every characteristic costs every row, shape (n, k)."""
        assert self.card is not None
        out = np.empty((len(frame), len(self.neutral)))
        for j, c in enumerate(self.card.characteristics):
            out[:, j] = self.neutral[j] - c.points[c.bins(frame, party=self.party)]
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "scale_bits": self.scale_bits,
            "card": self.card and self.card.to_dict(),
            "labels": list(self.labels),
            "neutral": list(self.neutral),
            "supplied": self.supplied and self.supplied.to_dict(),
            "numeric": self.numeric and self.numeric.to_dict(),
            "coef": self.coef.tolist(),
            "constant": self.constant,
            "party": self.party,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LinearPart:
        """Rebuild from :meth:`to_dict`."""
        return cls(
            scale_bits=int(data["scale_bits"]),
            card=data["card"] and CardPart.from_dict(data["card"]),
            labels=tuple(data["labels"]),
            neutral=tuple(data["neutral"]),
            supplied=data["supplied"] and CardPart.from_dict(data["supplied"]),
            numeric=data["numeric"] and NumericColumns.from_dict(data["numeric"]),
            coef=np.array(data["coef"], np.float64),
            constant=float(data["constant"]),
            party=str(data["party"]),
        )


Part = LinearPart | ServedTrees


def pack_part(part: Part, salt: bytes) -> bytes:
    """Return a part as it rests in its party's store."""
    kind = "linear" if isinstance(part, LinearPart) else "trees"
    plain = {"kind": kind, "salt": salt.hex(), **part.to_dict()}
    return json.dumps(plain, sort_keys=True).encode()


def part_digest(packed: bytes) -> str:
    """Return SHA-256 of a packed part, in hexadecimal; its salt hides what is in the part."""
    return hashlib.sha256(packed).hexdigest()


def _read_part(data: bytes) -> Part:
    plain = json.loads(data)
    kind, _ = plain.pop("kind"), plain.pop("salt")
    return LinearPart.from_dict(plain) if kind == "linear" else ServedTrees.from_dict(plain)


# ----------------------------------------------------------------------------------- at rest


def _key(target: str) -> str:
    return hashlib.sha256(check_target(target).encode()).hexdigest()


def store_served(store: Store, model: ServedModel, packed: bytes) -> None:
    """Keep a model's header and this party's packed part.

    Raises
    ------
    InputError
        Another model is served under this name and version.
    """
    known = store.get(_HEADER, _key(model.target))
    if known is not None and ServedModel.from_json(known).digest != model.digest:
        raise InputError(
            "another model is served under this name and version.",
            step=_STEP,
            fix="deploy under a new version",
        )
    store.put(_PART, _key(model.target), packed)
    store.put(_HEADER, _key(model.target), model.to_json().encode())


def withdraw_served(store: Store, target: str) -> None:
    """Stop serving a model; its part is deleted."""
    store.delete(_HEADER, _key(target))
    store.delete(_PART, _key(target))


def served_targets(store: Store) -> list[ServedModel]:
    """Return the headers of all served models, by name."""
    found = [store.get(_HEADER, key) for key in store.keys(_HEADER)]
    models = [ServedModel.from_json(data) for data in found if data is not None]
    return sorted(models, key=lambda model: model.target)


def read_served(store: Store, target: str, *, party: str) -> ServedModel:
    """Read the header of a served model.

    Raises
    ------
    Refusal
        ``model_unknown``.
    """
    data = store.get(_HEADER, _key(target))
    if data is None:
        raise Refusal(
            "this model is not served here in this version.",
            code="model_unknown",
            party=party,
            step=_STEP,
            fix="ask the platform which models are served",
        )
    return ServedModel.from_json(data)


def load_part(store: Store, model: ServedModel, *, party: str) -> Part:
    """Read this party's part of a served model.

    Raises
    ------
    Refusal
        ``model_unknown``: it was withdrawn just now, or the storage was cleared.
    """
    data = store.get(_PART, _key(model.target))
    if data is None:
        raise Refusal(
            "this party's part of the model is gone.",
            code="model_unknown",
            party=party,
            step=_STEP,
            fix="deploy the model again",
        )
    return _read_part(data)
