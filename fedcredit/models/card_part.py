"""One party's part of a scorecard, complete in itself: its columns, bins, weights and points.

The points of a row are the sum of all parties' parts. A part has everything that its party's
addend needs, so the party can archive it, review it, or run it in its own systems without
fedcredit. It holds cut points and category names and belongs to its party alone; and a party's
addend for a row is what joint scoring hides, so addends are no more fit to be handed on than the
columns they come from.

Of standard formats, PMML has a scorecard element, but its maintained writers for Python need a
Java runtime, and ONNX has no scorecard but all the operators of one; a part is offered as JSON in
the format that `CardPart.to_dict` describes, and as ONNX by `fedcredit.models.export_onnx`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError, ProtocolError
from fedcredit.models.columns import ColumnCoder, to_pandas
from fedcredit.models.engine_binning import load_columns
from fedcredit.models.engine_scorecard import KeptCard
from fedcredit.models.scorecard_share import row_points
from fedcredit.stats.bin_rules import BinRule
from fedcredit.stats.scorecard_points import PointScale

if TYPE_CHECKING:
    from fedcredit.models.engine import ProviderEngine
    from fedcredit.models.logistic import VerticalLogisticRegression
    from fedcredit.models.scorecard import VerticalScorecard

__all__ = ["FORMAT", "CardCharacteristic", "CardPart", "kept_characteristics"]

FORMAT = "fedcredit.scorecard_part/1"

Floats = npt.NDArray[np.float64]

_STEP = "scorecard part"


def _refuse(reason: str) -> NoReturn:
    raise InputError(
        reason, step=_STEP, fix="use a part that this release of fedcredit has written, unedited"
    )


def _per_bin(values: npt.ArrayLike, rule: BinRule, what: str) -> Floats:
    numbers = np.array(values, np.float64)
    if numbers.shape != (rule.n_bins,) or not np.isfinite(numbers).all():
        _refuse(f"{what} are not one finite number per bin.")
    # Adding zero turns -0.0 into 0.0.
    numbers += 0.0
    numbers.setflags(write=False)
    return numbers


@dataclass(frozen=True, slots=True, eq=False)
class CardCharacteristic:
    """One column of the party's table, as the card uses it.

    Attributes
    ----------
    name : str
        Of the column.
    rule : BinRule
        The final bins.
    woe : ndarray of float64, shape (rule.n_bins,)
    points : ndarray of float64, shape (rule.n_bins,)
        This characteristic's part of spread base points included.
    coef : float
        Of the WOE in the regression, on log odds of the event.
    categories : tuple of str, or None
        Names of the category codes of a categorical rule, None for a number.

    Raises
    ------
    InputError
        Values that do not fit the rule or are not finite.
    """

    name: str
    rule: BinRule = field(repr=False)
    woe: Floats = field(repr=False)
    points: Floats = field(repr=False)
    coef: float = field(repr=False)
    categories: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "woe", _per_bin(self.woe, self.rule, "weights of evidence"))
        object.__setattr__(self, "points", _per_bin(self.points, self.rule, "points"))
        object.__setattr__(self, "coef", float(self.coef))
        if not np.isfinite(self.coef):
            _refuse("a coefficient is not a finite number.")
        names = self.categories
        if (names is None) != (self.rule.kind == "numeric"):
            _refuse("a categorical characteristic, and no other, has names of categories.")
        if names is not None:
            object.__setattr__(self, "categories", tuple(names))
            if len(set(names)) != len(names) or len(names) != self.rule.n_categories:
                _refuse("there is not one name per category.")

    @property
    def coder(self) -> ColumnCoder:
        """How the column becomes numbers."""
        return ColumnCoder(self.name, self.categories)

    def bins(self, frame: pd.DataFrame, *, party: str) -> npt.NDArray[np.int64]:
        """Return the bin of every row; shape (n,). See `CardPart.points` for the errors."""
        return self.rule.apply(self.coder.transform(frame, party=party))

    def to_dict(self) -> dict[str, Any]:
        """Return an element of the characteristics in `CardPart.to_dict`."""
        return {
            "name": self.name,
            "categories": None if self.categories is None else list(self.categories),
            "rule": self.rule.to_dict(),
            "woe": self.woe.tolist(),
            "points": self.points.tolist(),
            "coef": self.coef,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CardCharacteristic:
        """Read what `to_dict` returned; raises `InputError` if it is something else."""
        _check_fields(data, {"name", "categories", "rule", "woe", "points", "coef"})
        names = data["categories"]
        if names is not None:
            _check_list(names, str)
        for field_name in ("woe", "points"):
            _check_list(data[field_name], int, float)
        if not isinstance(data["rule"], Mapping):
            _refuse("a field has another type.")
        try:
            rule = BinRule.from_dict(data["rule"])
        except OverflowError:
            _refuse("a number is too large.")
        return cls(
            name=_typed(data["name"], str),
            rule=rule,
            woe=np.array(data["woe"], np.float64),
            points=np.array(data["points"], np.float64),
            coef=_typed(data["coef"], int, float),
            categories=None if names is None else tuple(names),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CardPart:
    """All that one party adds to the points of a scorecard.

    Attributes
    ----------
    party : str
    model_id : str
        ``model_id_`` of the scorecard.
    characteristics : tuple of CardCharacteristic
    base_points : float
        Points that every row gets; 0 for a provider, and for the platform if they are spread over
        the characteristics.
    scale : PointScale or None
        What total points mean.

    Raises
    ------
    InputError
        Two characteristics of one name, or base points that are not finite.
    """

    party: str
    model_id: str
    characteristics: tuple[CardCharacteristic, ...]
    base_points: float = 0.0
    scale: PointScale | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "characteristics", tuple(self.characteristics))
        object.__setattr__(self, "base_points", float(self.base_points) + 0.0)
        if not np.isfinite(self.base_points):
            _refuse("the base points are not a finite number.")
        if len(set(self.names)) != len(self.names):
            _refuse("two characteristics have one name.")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the part needs."""
        return tuple(c.name for c in self.characteristics)

    # ---------------------------------------------------------------------- made from

    @classmethod
    def of_platform(cls, card: VerticalScorecard) -> CardPart:
        """Take the platform's part out of a fitted or loaded scorecard.

        Parameters
        ----------
        card : VerticalScorecard

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The card is not fitted.
        """
        check_is_fitted(card)
        share, features = card.share_, card.scoring_binner_.features_
        made = []
        for known in share.of(card.platform_):
            feature = features[known.name]
            # The platform has the limits of its own bins and knows its own coefficients.
            assert feature.rule is not None
            assert feature.coder is not None
            assert known.points is not None
            assert known.coef is not None
            made.append(
                CardCharacteristic(
                    name=feature.coder.name,
                    rule=feature.rule.merged(feature.groups),
                    woe=known.woe,
                    points=known.points,
                    coef=known.coef,
                    categories=feature.coder.categories,
                )
            )
        return cls(card.platform_, card.model_id_, tuple(made), share.base, share.scale)

    @classmethod
    def of_regression(cls, model: VerticalLogisticRegression) -> CardPart:
        """Take the platform's part out of a regression on weights of evidence.

        Its points are log-odds of the event: coefficient times weight of evidence, and the
        constant once.

        Parameters
        ----------
        model : VerticalLogisticRegression
            Fitted, with a binner.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The model is not fitted.
        """
        check_is_fitted(model)
        share, binner = model.share_, model.binner_
        assert binner is not None
        made = []
        for label, coef in zip(share.own_labels, share.weights.tolist(), strict=True):
            feature = binner.features_[f"{share.platform}.{label}"]
            assert feature.rule is not None
            assert feature.coder is not None
            woe = np.asarray(feature.woe(binner.options_).woe, np.float64)
            made.append(
                CardCharacteristic(
                    name=feature.coder.name,
                    rule=feature.rule.merged(feature.groups),
                    woe=woe,
                    points=coef * woe,
                    coef=coef,
                    categories=feature.coder.categories,
                )
            )
        return cls(share.platform, model.model_id_, tuple(made), float(share.constant))

    @classmethod
    def of_provider(cls, engine: ProviderEngine, model_id: str) -> CardPart:
        """Take a provider's part out of its own storage, at the provider.

        Parameters
        ----------
        engine : ProviderEngine
        model_id : str
            ``model_id_`` of the scorecard.

        Raises
        ------
        ProtocolError
            The card, or the binner that it uses, is not known here.
        """
        card = KeptCard.load(engine, model_id, step=_STEP)

        def points(woe: Floats, coef: float) -> Floats:
            return row_points(
                woe[:, None], [coef], card.scale, base=card.base, rounding=card.rounding
            ).ravel()

        made = kept_characteristics(engine, card.binner_id, card.labels, card.coef, points)
        return cls(engine.party, model_id, made, scale=card.scale)

    # ------------------------------------------------------------------------- points

    def points(self, table: pd.DataFrame) -> Floats:
        """Return this party's points of rows: the reference for every other form of the part.

        Parameters
        ----------
        table : pandas.DataFrame, or any table that exports Arrow
            With the columns `names`; others are not looked at. NaN and None are missing; a
            category that the part does not have counts as missing.

        Returns
        -------
        ndarray of float64, shape (n,)
            The base points, then one characteristic after the other is added.

        Raises
        ------
        InputError
            A column is missing, is not numeric where it must be, or is infinite.
        """
        frame = to_pandas(table, party=self.party)
        total = np.full(len(frame), self.base_points)
        for c in self.characteristics:
            total += c.points[c.bins(frame, party=self.party)]
        return total

    def woe(self, table: pd.DataFrame) -> Floats:
        """Return the weights of evidence of rows; shape (n, k). See `points`."""
        frame = to_pandas(table, party=self.party)
        out = np.empty((len(frame), len(self.characteristics)))
        for j, c in enumerate(self.characteristics):
            out[:, j] = c.woe[c.bins(frame, party=self.party)]
        return out

    # ------------------------------------------------------------------------ at rest

    def to_dict(self) -> dict[str, Any]:
        """Return the part in the format ``fedcredit.scorecard_part/1``.

        Returns
        -------
        dict
            Of plain JSON values, all numbers finite::

                format           "fedcredit.scorecard_part/1"
                party, model_id  text
                base_points      number, added once
                scale            null, or {pdo, base_score, base_odds} of the total points
                characteristics  list, one element per column:
                  name           text, of the column
                  categories     null for a number, else a list of texts; codes are positions
                  rule           the bins: kind "numeric" or "categorical", splits,
                                 special_codes, groups, n_categories, folded
                  woe, points    one number per bin
                  coef           number

            A numeric value x is in bin b if ``splits[b - 1] <= x < splits[b]``, a category in the
            bin whose group has its code. A value equal to ``special_codes[i]`` is in bin
            ``folded[i]`` instead, and a missing value or unknown category in bin ``folded[-1]``.
            Bins are numbered intervals or groups first, then one for each special code, then
            that of missing values.
        """
        return {
            "format": FORMAT,
            "party": self.party,
            "model_id": self.model_id,
            "base_points": self.base_points,
            "scale": None if self.scale is None else self.scale.to_dict(),
            "characteristics": [c.to_dict() for c in self.characteristics],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CardPart:
        """Read what `to_dict` returned.

        Raises
        ------
        InputError
            It is of another format, a field is missing, unknown or of another type, or fields
            contradict each other.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            _refuse(f"this is not a {FORMAT}.")
        fields = {"format", "party", "model_id", "base_points", "scale", "characteristics"}
        _check_fields(data, fields)
        scale = data["scale"]
        if scale is not None:
            _check_fields(scale, {"pdo", "base_score", "base_odds"})
            scale = PointScale(**{name: _typed(v, int, float) for name, v in scale.items()})
        _check_list(data["characteristics"], dict)
        return cls(
            party=_typed(data["party"], str),
            model_id=_typed(data["model_id"], str),
            characteristics=tuple(
                CardCharacteristic.from_dict(item) for item in data["characteristics"]
            ),
            base_points=_typed(data["base_points"], int, float),
            scale=scale,
        )

    def to_json(self) -> str:
        """Return `to_dict` as text, strict JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> CardPart:
        """Read what `to_json` returned; raises `InputError` as `from_dict`, or if no JSON."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            _refuse("this is no JSON.")
        return cls.from_dict(data)


def kept_characteristics(
    engine: ProviderEngine,
    binner_id: str,
    labels: Sequence[str],
    coef: Sequence[float],
    points: Callable[[Floats, float], Floats],
) -> tuple[CardCharacteristic, ...]:
    """Make a provider's characteristics from the binner that it keeps.

    Parameters
    ----------
    engine : ProviderEngine
    binner_id : str
    labels : sequence of str
    coef : sequence of float
        One per label.
    points : callable
        Turns the weights of evidence of a characteristic's bins and its coefficient into points.

    Raises
    ------
    ProtocolError
        The binner is not known here, or its weights were not released to this provider.
    """
    columns = load_columns(engine, binner_id)
    made = []
    for label, weight in zip(labels, coef, strict=True):
        column = columns[label]
        if column.place is None or column.woe is None:
            raise ProtocolError(
                "the weights of evidence were not released to this provider.",
                party=engine.party,
                step=_STEP,
                fix="fit the model again",
            )
        groups = [np.flatnonzero(column.place == b).tolist() for b in range(len(column.woe))]
        made.append(
            CardCharacteristic(
                name=column.coder.name,
                rule=column.rule.merged(groups),
                woe=column.woe,
                points=points(column.woe, weight),
                coef=weight,
                categories=column.coder.categories,
            )
        )
    return tuple(made)


# ------------------------------------------------------------------------------- checks


def _check_fields(data: Any, fields: set[str]) -> None:
    if not isinstance(data, Mapping) or set(data) != fields:
        _refuse(f"a part has exactly the fields of {FORMAT}.")


def _typed(value: Any, *kinds: type) -> Any:
    # By type(), because a bool is an int.
    if type(value) not in kinds:
        _refuse("a field has another type.")
    try:
        return float(value) if float in kinds else value
    except OverflowError:
        _refuse("a number is too large.")


def _check_list(values: Any, *kinds: type) -> None:
    if type(values) is not list:
        _refuse("a field has another type.")
    items: Sequence[Any] = values
    for item in items:
        _typed(item, *kinds)
