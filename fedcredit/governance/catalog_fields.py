"""One field of a provider's catalog, and the rules of what it may be used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn, get_args

from fedcredit.errors import InputError
from fedcredit.governance.predicates import Predicate
from fedcredit.governance.question import PURPOSES

__all__ = [
    "DEFAULT_AGGREGATION",
    "GRADES",
    "GRAINS",
    "SHARINGS",
    "TYPES",
    "USES",
    "USES_BY_CONSENT",
    "CatalogField",
    "DataUse",
    "Denial",
    "coarser",
]

FieldType = Literal["number", "integer", "category", "date", "id", "flag"]
Sharing = Literal["public", "consent", "joint_modelling_only", "never"]
DataUse = Literal["alignment", "training", "scoring", "verification"]
Grain = Literal["feature", "group", "party", "none"]

TYPES: tuple[str, ...] = get_args(FieldType)
SHARINGS: tuple[str, ...] = get_args(Sharing)
USES: tuple[str, ...] = get_args(DataUse)
#: How finely reasons may name a field, from fine to coarse.
GRAINS: tuple[str, ...] = get_args(Grain)
#: Uses that are about one enterprise and need its consent, whatever the sharing attribute.
USES_BY_CONSENT = ("scoring", "verification")
#: Data levels of JR/T 0197-2020: how much harm follows when the data get into wrong hands.
GRADES: dict[int, str] = {
    1: "may be public: no harm, or hardly any, to persons and enterprises",
    2: "internal: slight harm to the privacy of persons or the rights of enterprises",
    3: "restricted: marked harm to persons or enterprises, slight harm to the public interest",
    4: "confidential: severe harm to persons or enterprises, marked harm to the public interest",
    5: "key data: severe harm to the public interest, or any harm to national security",
}
DEFAULT_AGGREGATION = 10


class Denial(NamedTuple):
    """A rule that forbids a use: its code, and what it says of the field."""

    code: str
    reason: str


@dataclass(frozen=True)
class CatalogField:
    """What the catalog says about one field.

    Attributes
    ----------
    name : str
        The column of the provider's table.
    type : {"number", "integer", "category", "date", "id", "flag"}
    grade : int
        1 to 5; see :data:`GRADES`.
    sharing : {"public", "consent", "joint_modelling_only", "never"}
    unit, description : str
    uses : tuple of str
        Of :data:`USES`.
    purposes : tuple of str
        Of :data:`~fedcredit.governance.question.PURPOSES`; for scoring and verification.
    min_aggregation : int
        Fewest rows that a bin or another sum over the field may be about, and fewest rows of a
        training job that uses it.
    reason_grain : {"feature", "group", "party", "none"}
        How finely a reason for a score may name the field. With "none" it is never a reason of its
        own; what it costs counts under the party's name.
    group : str
        What it is called with the grain "group".
    predicates : tuple of Predicate

    Raises
    ------
    InputError
        A value is unknown or out of range, or the settings contradict each other.
    """

    name: str
    type: str
    grade: int
    sharing: str
    unit: str = ""
    description: str = ""
    uses: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    min_aggregation: int = DEFAULT_AGGREGATION
    reason_grain: str = "party"
    group: str = ""
    predicates: tuple[Predicate, ...] = ()

    def __post_init__(self) -> None:
        for key, options in (("type", TYPES), ("sharing", SHARINGS), ("reason_grain", GRAINS)):
            if getattr(self, key) not in options:
                self._wrong(f"{key!r} must be one of {', '.join(options)}")
        for key, known in (("uses", USES), ("purposes", tuple(PURPOSES))):
            unknown = [entry for entry in getattr(self, key) if entry not in known]
            if unknown:
                self._wrong(f"{key!r} holds the unknown {unknown[0]!r}", f"use {', '.join(known)}")
        if self.grade not in GRADES:
            self._wrong("'grade' must be 1 to 5")
        if self.min_aggregation < 1:
            self._wrong("'min_aggregation' must be at least 1")
        if self.type == "id" and set(self.uses) - {"alignment"}:
            self._wrong("an id is used for nothing but alignment", 'write uses = ["alignment"]')
        if self.reason_grain == "group" and not self.group:
            self._wrong("the reason_grain is group and there is no group", 'add group = "..."')

    def _wrong(self, reason: str, fix: str | None = None) -> NoReturn:
        raise InputError(f"{reason}.", step="catalog", fix=fix)

    def denial(
        self, use: str, purpose: str | None = None, *, rows: int | None = None
    ) -> Denial | None:
        """Return the first rule that forbids a use of the field, or None.

        Parameters
        ----------
        use, purpose, rows
            See :meth:`fedcredit.governance.catalog.Catalog.require`.
        """
        by_consent = use in USES_BY_CONSENT
        if self.sharing == "never":
            return Denial("field_denied", "is never shared")
        if self.grade == 5:
            return Denial("field_denied", "is of grade 5, which leaves in no form")
        if use == "verification" and self.grade == 4:
            return Denial("field_denied", "is of grade 4, which is not verified")
        if use == "verification" and self.sharing == "joint_modelling_only":
            return Denial("field_denied", "is for joint modelling only and is not verified")
        if use not in self.uses:
            return Denial("field_denied", f"is not open for {use}")
        if by_consent and not self.purposes:
            return Denial("purpose_denied", "is open for no purpose")
        if by_consent and purpose is not None and purpose not in self.purposes:
            return Denial("purpose_denied", "is not open for this purpose")
        if not by_consent and rows is not None and rows < self.min_aggregation:
            return Denial("aggregation_too_small", f"needs at least {self.min_aggregation} rows")
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the field as it stands in the file, with every key."""
        plain: dict[str, Any] = {
            key: list(value) if isinstance(value := getattr(self, key), tuple) else value
            for key in _KEYS
        }
        plain["predicates"] = [predicate.to_dict() for predicate in self.predicates]
        return plain


_KEYS = (
    "type",
    "unit",
    "description",
    "grade",
    "sharing",
    "uses",
    "purposes",
    "min_aggregation",
    "reason_grain",
    "group",
)


def coarser(one: str, other: str) -> str:
    """Return the coarser of two grains."""
    return max(one, other, key=GRAINS.index)
