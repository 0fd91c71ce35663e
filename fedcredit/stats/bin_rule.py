"""A rule that puts the values of one feature into bins, for weights of evidence and scorecards.

A rule stays where its column is: other parties see bin numbers or sums per bin. It has its bins in
a fixed order: the intervals of a number or the groups of a category, then one bin per special
code, then the bin of the missing values, which is always there. See `fedcredit.stats.bin_rules`
for how rules are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.errors import InputError

__all__ = ["BinRule", "Role", "checked_numbers", "regroup"]

_STEP = "binning"

Role = Literal["ordered", "category", "special", "missing"]


def checked_numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Return a vector of float64 without infinities; NaN stays.

    Raises
    ------
    InputError
        If values are not numbers, not a vector, or infinite. It names `what`.
    """
    try:
        vector = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} are not numbers.", step=_STEP, fix="encode categories as codes 0, 1, …"
        ) from None
    if vector.ndim != 1:
        raise InputError(f"{what} are a vector.", step=_STEP)
    if np.isinf(vector).any():
        raise InputError(
            f"{what} contain infinity.",
            step=_STEP,
            fix="replace infinities by NaN (missing) or by a special code",
        )
    return vector


def regroup(
    roles: Sequence[str], groups: Sequence[Sequence[int]]
) -> tuple[NDArray[np.int64], tuple[Role, ...]]:
    """Give numbers to the bins that arise when bins are merged.

    The new bins are those groups that contain an interval or a category, in the given order, then
    every special bin and the missing bin again. A special or missing bin that shares a group with
    others gives its rows to the group's first bin and stays behind empty. So if special and
    missing bins are groups of their own and come last, new bin i is group i.

    Parameters
    ----------
    roles : sequence of str
        Of the old bins, as `BinRule.roles`.
    groups : sequence of sequences of int
        Every old bin number exactly once. Intervals of one group are neighbours, and groups of
        intervals come in their order.

    Returns
    -------
    place : ndarray of int64, shape (len(roles),)
        The new bin of every old one: ``np.bincount(place, counts, len(new_roles))`` are the new
        counts.
    new_roles : tuple of str
        Roles of the new bins.

    Raises
    ------
    InputError
        If a bin is left out or named twice, or groups tear an interval's neighbours apart.
    """
    members = [sorted(int(b) for b in group) for group in groups]
    if sorted(b for group in members for b in group) != list(range(len(roles))):
        raise InputError(
            "groups do not name every bin exactly once.",
            step=_STEP,
            fix="list each bin number in exactly one group",
        )
    heads = [[b for b in group if roles[b] in ("ordered", "category")] for group in members]
    heads = [head for head in heads if head]
    if "ordered" in roles and [b for head in heads for b in head] != list(
        range(sum(role == "ordered" for role in roles))
    ):
        raise InputError(
            "groups of intervals are neighbours, in ascending order.",
            step=_STEP,
            fix="merge adjacent intervals only",
        )
    n_old = sum(len(head) for head in heads)
    place = np.empty(len(roles), np.int64)
    place[n_old:] = len(heads) + np.arange(len(roles) - n_old)
    number = 0
    for group in members:
        if not group:
            continue
        if roles[group[0]] in ("ordered", "category"):
            place[group] = number
            number += 1
        else:
            place[group] = place[group[0]]
    kind: list[Any] = [roles[head[0]] for head in heads]
    return place, (*kind, *roles[n_old:])


@dataclass(frozen=True, slots=True, eq=False)
class BinRule:
    """How one feature's values become bin numbers.

    Attributes
    ----------
    kind : {"numeric", "categorical"}
        Intervals of a number, or groups of category codes.
    splits : ndarray of float64
        Numeric: strictly ascending cut points; bin b holds ``splits[b - 1] <= x < splits[b]``.
    special_codes : tuple of float
        Values that stand for something else than a quantity, each with a bin of its own.
    groups : tuple of tuples of int
        Categorical: the category codes of each bin. Codes in no group, and codes never seen, count
        as missing.
    n_categories : int
        Categorical: category codes are 0 to ``n_categories - 1``. Numeric: 0.
    folded : tuple of int
        For every special code, then for missing: the bin its rows go to. By default its own; if
        another, its own bin stays behind empty.
    """

    kind: Literal["numeric", "categorical"]
    splits: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    special_codes: tuple[float, ...] = field(default=(), repr=False)
    groups: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    n_categories: int = 0
    folded: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        # Adding zero turns -0.0 into 0.0, so that equal rules also look equal.
        splits = checked_numbers(self.splits, "splits") + 0.0
        splits.setflags(write=False)
        specials = checked_numbers(np.array(self.special_codes, np.float64), "special codes") + 0.0
        groups = tuple(tuple(sorted(int(c) for c in group)) for group in self.groups)
        codes = [code for group in groups for code in group]
        if np.isnan(splits).any() or not (np.diff(splits) > 0).all():
            raise InputError(
                "splits are not strictly ascending numbers.", step=_STEP, fix="sort the splits"
            )
        if np.isnan(specials).any() or len(np.unique(specials)) != len(specials):
            raise InputError("special codes are distinct numbers.", step=_STEP)
        if self.kind == "numeric":
            fits = not groups and self.n_categories == 0
        elif self.kind == "categorical":
            inside = all(0 <= code < self.n_categories for code in codes)
            fits = not len(splits) and inside and len(set(codes)) == len(codes) and all(groups)
        else:
            fits = False
        if not fits:
            raise InputError("splits or groups do not fit the kind of rule.", step=_STEP)
        object.__setattr__(self, "splits", splits)
        object.__setattr__(self, "special_codes", tuple(specials.tolist()))
        object.__setattr__(self, "groups", groups)
        own = range(self.n_value_bins, self.n_bins)
        folded = tuple(int(b) for b in self.folded) or tuple(own)
        if len(folded) != len(own) or not all(0 <= b < self.n_bins for b in folded):
            raise InputError("special or missing bins are folded into no bin.", step=_STEP)
        object.__setattr__(self, "folded", folded)

    @property
    def n_value_bins(self) -> int:
        """Number of intervals or category groups: all bins but the special and missing ones."""
        return len(self.splits) + 1 if self.kind == "numeric" else len(self.groups)

    @property
    def n_bins(self) -> int:
        """Number of bins, those of special codes and of missing values included."""
        return self.n_value_bins + len(self.special_codes) + 1

    @property
    def roles(self) -> tuple[Role, ...]:
        """What every bin is: "ordered" or "category", then "special", then "missing"."""
        first: Role = "ordered" if self.kind == "numeric" else "category"
        specials: list[Role] = ["special"] * len(self.special_codes)
        return (*[first] * self.n_value_bins, *specials, "missing")

    @property
    def is_constant(self) -> bool:
        """Whether at most special and missing bins tell rows apart: one interval or group."""
        return self.n_value_bins <= 1

    def apply(self, values: ArrayLike) -> NDArray[np.int64]:
        """Return the bin of every value.

        Parameters
        ----------
        values : array_like of float, shape (n,)
            NaN is missing. For a categorical rule the category codes; codes in no group count as
            missing.

        Returns
        -------
        ndarray of int64, shape (n,)

        Raises
        ------
        InputError
            If values are not a vector of numbers, are infinite, or category codes are fractions.
        """
        vector = checked_numbers(values, "values")
        missing = np.isnan(vector)
        if self.kind == "numeric":
            bins = np.searchsorted(self.splits, vector, side="right").astype(np.int64)
        else:
            table = np.full(self.n_categories + 1, self.folded[-1], np.int64)
            for b, group in enumerate(self.groups):
                table[list(group)] = b
            whole = np.floor(vector)
            if not ((whole == vector) | missing | np.isin(vector, self.special_codes)).all():
                raise InputError(
                    "category codes are whole numbers.",
                    step=_STEP,
                    fix="encode the categories as codes 0, 1, …",
                )
            known = (whole >= 0) & (whole < self.n_categories)
            bins = table[np.where(known, whole, self.n_categories).astype(np.int64)]
        for code, target in zip(self.special_codes, self.folded, strict=False):
            bins[vector == code] = target
        bins[missing] = self.folded[-1]
        return bins

    def merged(self, groups: Sequence[Sequence[int]]) -> BinRule:
        """Return the rule whose bins are groups of this rule's bins, numbered as by `regroup`.

        Parameters
        ----------
        groups : sequence of sequences of int
            As for `regroup`.

        Raises
        ------
        InputError
            As `regroup`.
        """
        place, roles = regroup(self.roles, groups)
        n_values = sum(role in ("ordered", "category") for role in roles)
        folded = tuple(int(place[b]) for b in self.folded)
        if self.kind == "numeric":
            borders = np.flatnonzero(np.diff(place[: self.n_value_bins]))
            return BinRule(
                kind=self.kind,
                splits=self.splits[borders],
                special_codes=self.special_codes,
                folded=folded,
            )
        codes: list[list[int]] = [[] for _ in range(n_values)]
        for b, group in enumerate(self.groups):
            codes[place[b]].extend(group)
        return BinRule(
            kind=self.kind,
            special_codes=self.special_codes,
            groups=tuple(tuple(group) for group in codes),
            n_categories=self.n_categories,
            folded=folded,
        )

    def describe(self, categories: Sequence[str] | None = None) -> list[str]:
        """Say what is in every bin, for the owner of the column: the texts contain cut points.

        Parameters
        ----------
        categories : sequence of str, optional
            The names of the category codes; by default the codes themselves.

        Returns
        -------
        list of str
            For instance ``"[-inf, 3.5)"``, ``"A, B"``, ``"special: -999"`` and ``"missing"``, one
            per bin. A bin into which others were folded names them too.

        Raises
        ------
        InputError
            If there is not one name per category.
        """
        if self.kind == "numeric":
            ends = ["-inf", *(_text(split) for split in self.splits.tolist()), "inf"]
            texts = [f"[{low}, {high})" for low, high in pairwise(ends)]
        else:
            known = [
                str(c) for c in (range(self.n_categories) if categories is None else categories)
            ]
            if len(known) != self.n_categories:
                raise InputError("there is not one name per category.", step=_STEP)
            texts = [", ".join(known[code] for code in group) for group in self.groups]
        held: list[list[str]] = [[text] for text in texts]
        extra = [*(f"special: {_text(code)}" for code in self.special_codes), "missing"]
        held += [[] for _ in extra]
        for text, target in zip(extra, self.folded, strict=True):
            held[target].append(text)
        # A bin whose rows went elsewhere keeps its name.
        names = [*texts, *extra]
        return [", ".join(parts) or names[b] for b, parts in enumerate(held)]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "kind": self.kind,
            "splits": self.splits.tolist(),
            "special_codes": list(self.special_codes),
            "groups": [list(group) for group in self.groups],
            "n_categories": self.n_categories,
            "folded": list(self.folded),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BinRule:
        """Read what `to_dict` returned.

        Raises
        ------
        InputError
            If a field is missing, unknown or of another type, or the fields contradict each other.
        """
        kinds: dict[str, type] = {
            "kind": str,
            "splits": list,
            "special_codes": list,
            "groups": list,
        }
        kinds |= {"n_categories": int, "folded": list}
        if set(data) != set(kinds):
            raise InputError("a rule has exactly the fields of BinRule.to_dict.", step=_STEP)
        for name, kind in kinds.items():
            if type(data[name]) is not kind:
                raise InputError(f"{name} has another type.", step=_STEP)
        whole = [*data["folded"], *(c for group in data["groups"] for c in _listed(group))]
        real = [*data["splits"], *data["special_codes"]]
        if any(type(x) is not int for x in whole) or any(type(x) not in (int, float) for x in real):
            raise InputError("splits, codes or groups are not numbers.", step=_STEP)
        return cls(
            kind=data["kind"],
            splits=np.array(data["splits"], np.float64),
            special_codes=tuple(data["special_codes"]),
            groups=tuple(tuple(group) for group in data["groups"]),
            n_categories=data["n_categories"],
            folded=tuple(data["folded"]),
        )


def _listed(group: Any) -> list[Any]:
    if type(group) is not list:
        raise InputError("groups are lists of codes.", step=_STEP)
    return group


def _text(number: float) -> str:
    """Return the shortest text that reads back as the same number."""
    return repr(number).removesuffix(".0")
