"""Yes-or-no questions that a provider offers about a field: the menu, their text, their truth.

What may stand behind an operator:

==================  ==============================  =============================================
operator            asked with                      of fields (after ``aggregate``) of type
==================  ==============================  =============================================
``>= > <= <``       one of ``thresholds``           number, integer, date
``== !=``           one of ``thresholds``           number, integer, date
``== !=``           nothing; one fixed ``values``   category, flag, number, integer
``in``              nothing; the fixed ``values``   category, number, integer
``declared``        one of ``tolerances``, and a    number, integer
                    value that only the subject
                    and the institution know
==================  ==============================  =============================================

``aggregate`` makes one value of several fields (``over``):

===============  ===================  =============  =========================================
aggregate        of type              gives          is
===============  ===================  =============  =========================================
``min`` ``max``  number, integer,     the same type  the smallest, the largest
                 date
``sum``          number, integer      the same type  the sum
``count_true``   flag                 integer        how many are true
``all``          flag                 flag           whether every one is true
``last``         any but id           the same type  the last in the list that is not missing
===============  ===================  =============  =========================================

An answer is True, False, or None, which says "not known": the enterprise has no record, its value
is missing, or, but for ``last``, one of the aggregated values is. Nothing is guessed from the rest.
"""

from __future__ import annotations

import dataclasses
import datetime
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedcredit.errors import InputError, Refusal
from fedcredit.governance.predicate_values import (
    Scalar,
    column_values,
    scalar_text,
    threshold_number,
)

__all__ = [
    "MAX_MENU",
    "MAX_TOLERANCE",
    "Aggregate",
    "Operator",
    "Predicate",
]

Operator = Literal[">=", ">", "<=", "<", "==", "!=", "in", "declared"]
Aggregate = Literal["min", "max", "sum", "count_true", "all", "last"]
#: Entries of one menu of thresholds, tolerances or values.
MAX_MENU = 64
#: Largest tolerance of a declared value, in steps of its resolution.
MAX_TOLERANCE = 64

_STEP = "predicate"
_ORDERED = ("number", "integer", "date")
_NUMERIC = ("number", "integer")
#: Types that == and != compare with a fixed value.
_VALUED = ("category", "flag", *_NUMERIC)
#: Aggregate to the types it takes; what it gives is the same type unless it stands in _GIVES.
_TAKES: dict[str, tuple[str, ...]] = {
    "min": _ORDERED,
    "max": _ORDERED,
    "sum": _NUMERIC,
    "count_true": ("flag",),
    "all": ("flag",),
    "last": (*_ORDERED, "flag", "category"),
}
_GIVES = {"count_true": "integer"}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predicate:
    """One entry of the menu, and, once it is asked, the threshold or tolerance it is asked with.

    Attributes
    ----------
    id : str
    field : str
        Under which it stands in the catalog.
    type : str
        Type of the fields it reads.
    text : str
        The sentence that is true or false; ``{threshold}``, ``{values}`` and ``{tolerance}``, in
        units of the field, are filled in.
    operator : str
    thresholds : tuple
        Ascending.
    values : tuple
    resolution : float
        Units of one step of a declared value; 0 with other operators.
    tolerances : tuple of int
        In steps.
    over : tuple of str
        Fields that are aggregated; the field itself if there are none.
    aggregate : str
        Empty without ``over``.
    threshold : number or str, optional
        What is asked.
    tolerance : int, optional
        What is asked, in steps.

    Raises
    ------
    InputError
        The entry contradicts itself or the tables above.
    """

    id: str
    field: str
    type: str
    text: str
    operator: str
    thresholds: tuple[Scalar, ...] = ()
    values: tuple[Scalar, ...] = ()
    resolution: float = 0.0
    tolerances: tuple[int, ...] = ()
    over: tuple[str, ...] = ()
    aggregate: str = ""
    threshold: Scalar | None = None
    tolerance: int | None = None

    def __post_init__(self) -> None:
        if self.operator not in get_args(Operator):
            self._wrong("the operator is unknown", f"use one of {', '.join(get_args(Operator))}")
        self._check_aggregate()
        self._check_menu()
        self._check_text()

    # ------------------------------------------------------------------------- the entry

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields whose values are read."""
        return self.over or (self.field,)

    @property
    def result_type(self) -> str:
        """Type of what is compared."""
        return _GIVES.get(self.aggregate, self.type)

    @property
    def detail(self) -> str:
        """What it is asked with as canonical text, such as ``threshold=500000``; empty if nothing.

        >>> Predicate("p", "f", "number", "f is at least {threshold}", ">=", (5e5,)).at(5e5).detail
        'threshold=500000'
        """
        if self.threshold is not None:
            return f"threshold={scalar_text(self.threshold)}"
        return "" if self.tolerance is None else f"tolerance={self.tolerance}"

    def at(
        self, threshold: Scalar | datetime.date | None = None, tolerance: int | None = None
    ) -> Predicate:
        """Return the predicate as it is asked with a threshold or tolerance of its menu.

        Parameters
        ----------
        threshold : number, date or ISO text, optional
            May be left out if the menu has one.
        tolerance : int, optional
            In steps of the resolution; may be left out if the menu has one.

        Raises
        ------
        Refusal
            ``threshold_denied``: it is not on the menu.
        """
        if threshold is None and len(self.thresholds) == 1:
            threshold = self.thresholds[0]
        if tolerance is None and len(self.tolerances) == 1:
            tolerance = self.tolerances[0]
        if isinstance(threshold, datetime.date):
            threshold = threshold.isoformat()
        for name, asked, menu in (
            ("threshold", threshold, self.thresholds),
            ("tolerance", tolerance, self.tolerances),
        ):
            fits = asked is None if not menu else _on_menu(asked, menu)
            if not fits:
                offered = ", ".join(scalar_text(entry) for entry in menu)
                raise Refusal(
                    f"the {name} is not on the menu of the predicate {self.id!r}.",
                    code="threshold_denied",
                    step=_STEP,
                    fix=f"ask with one of {offered}" if menu else f"ask without a {name}",
                )
        return dataclasses.replace(self, threshold=threshold, tolerance=tolerance)

    def describe(self, threshold: Scalar | None = None, tolerance: int | None = None) -> str:
        """Return the sentence in its canonical form.

        Parameters
        ----------
        threshold, tolerance : optional
            By default what it is asked with; a name in braces stands for what is still open.

        Raises
        ------
        Refusal
            It is not on the menu.
        """
        asked = self if threshold is None and tolerance is None else self.at(threshold, tolerance)
        filled = {
            "threshold": "{threshold}",
            "tolerance": "{tolerance}",
            "values": ", ".join(scalar_text(value) for value in self.values),
        }
        if asked.threshold is not None:
            filled["threshold"] = scalar_text(asked.threshold)
        if asked.tolerance is not None:
            filled["tolerance"] = scalar_text(asked.tolerance * self.resolution)
        return self.text.format_map(filled)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as it stands in the file."""
        entry: dict[str, Any] = {"id": self.id, "text": self.text, "operator": self.operator}
        for key in ("thresholds", "values", "tolerances", "over"):
            if getattr(self, key):
                entry[key] = list(getattr(self, key))
        if self.operator == "declared":
            entry["resolution"] = self.resolution
        if self.aggregate:
            entry["aggregate"] = self.aggregate
        return entry

    # -------------------------------------------------------------------------- its truth

    def evaluate(self, frame: pd.DataFrame) -> npt.NDArray[np.object_]:
        """Answer for every row.

        Parameters
        ----------
        frame : pandas.DataFrame, shape (n, >= len(fields))
            One row per enterprise; all missing where there is no record.

        Returns
        -------
        ndarray of object, shape (n,)
            True, False, or None where it is not known.

        Raises
        ------
        InputError
            A column is missing or not of the field's type, or the predicate is not ready: it lacks
            its threshold, or is about a declared value, which is not known here.
        """
        if self.operator == "declared" or (self.thresholds and self.threshold is None):
            raise InputError(
                f"the predicate {self.id!r} cannot be evaluated by itself.",
                step=_STEP,
                fix="compare with the declared value in the protocol for it"
                if self.operator == "declared"
                else "choose a threshold with at()",
            )
        numbers, known = self._value(frame)
        wanted = self.values if self.threshold is None else (self.threshold,)
        if self.result_type == "category":
            held: npt.NDArray[np.bool_] = np.isin(numbers, np.array(wanted))
            held = ~held if self.operator == "!=" else held
        else:
            limits = np.array(
                [threshold_number(value, self.result_type) for value in wanted], np.float64
            )
            held = _compare(np.where(known, numbers, 0.0).astype(np.float64), self.operator, limits)
        answers = held.astype(object)
        answers[~known] = None
        return answers

    def steps(self, frame: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the values that declared ones are compared with, in steps of the resolution.

        Returns
        -------
        steps : ndarray of int64, shape (n,)
            To the nearest step, halves to the even one; 0 where not known.
        known : ndarray of bool, shape (n,)

        Raises
        ------
        InputError
            The predicate is not about declared values, a column is missing or of another type, or
            a value has more than 2^53 steps.
        """
        if self.operator != "declared":
            raise InputError(f"the predicate {self.id!r} has no declared value.", step=_STEP)
        values, known = self._value(frame)
        rounded = np.rint(np.where(known, values, 0.0).astype(np.float64) / self.resolution)
        if not (np.abs(rounded) <= 2.0**53).all():
            raise InputError(
                f"a value of the predicate {self.id!r} has too many steps.",
                step=_STEP,
                fix="choose a coarser resolution",
            )
        return rounded.astype(np.int64), known

    def _value(self, frame: pd.DataFrame) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        parts = [column_values(frame, name, self.type) for name in self.fields]
        values = np.stack([part[0] for part in parts])
        known = np.stack([part[1] for part in parts])
        if self.aggregate == "last":
            last = len(parts) - 1 - np.argmax(known[::-1], axis=0)
            picked: npt.NDArray[Any] = np.take_along_axis(values, last[None, :], axis=0)[0]
            return picked, np.logical_or.reduce(known, axis=0)
        whole: npt.NDArray[np.bool_] = np.logical_and.reduce(known, axis=0)
        if not self.aggregate:
            first: npt.NDArray[Any] = values[0]
            return first, whole
        filled = np.where(known, values, 0.0).astype(np.float64)
        made: Floats = {"min": filled.min, "max": filled.max, "all": filled.min}.get(
            self.aggregate, filled.sum
        )(axis=0)
        return made, whole

    # ----------------------------------------------------------------------------- checks

    def _wrong(self, reason: str, fix: str | None = None) -> NoReturn:
        raise InputError(f"{reason}.", step=_STEP, fix=fix)

    def _check_aggregate(self) -> None:
        if self.type == "id":
            self._wrong("an id has no predicates", "remove it")
        if bool(self.over) != bool(self.aggregate):
            self._wrong("'over' and 'aggregate' go together", "write both or neither")
        if self.aggregate and self.aggregate not in get_args(Aggregate):
            self._wrong("the aggregate is unknown", f"use one of {', '.join(get_args(Aggregate))}")
        if self.aggregate and self.type not in _TAKES[self.aggregate]:
            self._wrong(
                f"'aggregate' {self.aggregate} does not take fields of type {self.type}",
                f"use it on {', '.join(_TAKES[self.aggregate])}",
            )

    def _check_menu(self) -> None:
        kind, operator = self.result_type, self.operator
        menus = ("thresholds", "values", "tolerances")
        given = [name for name in menus if getattr(self, name)]
        takes = {"declared": ["tolerances"], "in": ["values"]}.get(operator, ["thresholds"])
        if operator in ("==", "!="):
            takes = ["thresholds", "values"]
        if len(given) != 1 or given[0] not in takes:
            self._wrong(f"the operator {operator} needs {' or '.join(takes)} and nothing else")
        menu: tuple[Scalar, ...] = getattr(self, given[0])
        if len(menu) > MAX_MENU or len(set(menu)) != len(menu):
            self._wrong(f"{given[0]!r} has more than {MAX_MENU} entries, or one twice")
        if given[0] == "thresholds":
            if kind not in _ORDERED:
                self._wrong(f"a {kind} has no thresholds", "write values = [...] with == or in")
            numbers = [threshold_number(value, kind) for value in menu]
            if numbers != sorted(numbers):
                self._wrong("'thresholds' must be ascending")
        elif given[0] == "values":
            if kind not in (("category", *_NUMERIC) if operator == "in" else _VALUED):
                self._wrong(f"a {kind} is not compared with 'values'", "write thresholds = [...]")
            for value in menu:
                threshold_number(value, kind)
            if operator in ("==", "!=") and len(menu) != 1:
                self._wrong(f"the operator {operator} takes one value", "use the operator in")
        if operator == "declared":
            if kind not in _NUMERIC:
                self._wrong(f"a {kind} cannot be declared with a tolerance")
            if any(not 0 <= step <= MAX_TOLERANCE for step in self.tolerances):
                self._wrong(f"'tolerances' are 0 to {MAX_TOLERANCE} steps")
        if (operator == "declared") != (self.resolution > 0):
            self._wrong("'resolution' belongs to the operator declared, and it needs one above 0")

    def _check_text(self) -> None:
        try:
            named = [name for _, name, _, _ in string.Formatter().parse(self.text)]
        except ValueError:
            named = ["?"]
        allowed = {"thresholds": "threshold", "values": "values", "tolerances": "tolerance"}
        fits = {short for menu, short in allowed.items() if getattr(self, menu)}
        found = {name for name in named if name is not None}
        if not found <= fits:
            self._wrong(
                "'text' names something in braces that the predicate does not have",
                f"use {{{fits.pop()}}}",
            )
        if self.thresholds and "threshold" not in found:
            self._wrong("'text' does not say its threshold", "write {threshold} into it")


def _on_menu(asked: object, menu: Sequence[Scalar]) -> bool:
    return any(
        isinstance(asked, bool) == isinstance(entry, bool)
        and isinstance(asked, str) == isinstance(entry, str)
        and bool(asked == entry)
        for entry in menu
    )


def _compare(values: Floats, operator: str, limits: Floats) -> npt.NDArray[np.bool_]:
    if operator == "in":
        return np.isin(values, limits)
    compare: Any = {
        ">=": np.greater_equal,
        ">": np.greater,
        "<=": np.less_equal,
        "<": np.less,
        "==": np.equal,
        "!=": np.not_equal,
    }[operator]
    held: npt.NDArray[np.bool_] = compare(values, limits[0])
    return held
