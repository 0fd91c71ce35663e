"""A provider's field catalog: what it holds, and what each field may be used for.

::

    [catalog]
    provider = "tax"
    version = "2026-11"

    [fields.annual_paid]
    type = "number"                  # number, integer, category, date, id, flag
    unit = "CNY"
    description = "tax paid in 2025"
    grade = 3                        # data level of JR/T 0197-2020, 1 to 5
    sharing = "consent"              # public, consent, joint_modelling_only, never
    uses = ["training", "scoring", "verification"]
    purposes = ["credit_granting", "guarantee"]
    min_aggregation = 10
    reason_grain = "group"           # feature, group, party, none
    group = "tax payments"

    [[fields.annual_paid.predicates]]
    id = "paid_at_least"
    text = "tax paid in 2025 is at least {threshold} CNY"
    operator = ">="
    thresholds = [100_000, 500_000, 1_000_000]

Unknown keys and contradictions are refused when the file is read. What is not listed is denied.
A use of a field is allowed if no rule forbids it; the first that does is named:

==  ============================  =====================================  =========================
no  the field                     is not used for                        code of the refusal
==  ============================  =====================================  =========================
1   is not in the catalog         anything                               ``field_unknown``
2   sharing "never"               anything                               ``field_denied``
3   grade 5                       anything                               ``field_denied``
4   grade 4                       verification                           ``field_denied``
5   sharing                       verification                           ``field_denied``
    "joint_modelling_only"
6   does not list the use         that use                               ``field_denied``
7   lists no purposes             scoring, verification                  ``purpose_denied``
8   does not list the purpose     scoring, verification for that         ``purpose_denied``
                                  purpose
9   min_aggregation over the      alignment and training                 ``aggregation_too_small``
    rows of the job
==  ============================  =====================================  =========================

Of a predicate, the field that it stands under and every field in ``over`` must be open for
verification; one that is not listed is refused with ``predicate_unknown``, a threshold or
tolerance off its menu with ``threshold_denied``. Scoring and verification need the enterprise's
consent whatever the sharing attribute, "public" included (:meth:`Catalog.needs_consent`);
alignment and training are about many enterprises and no purpose is named for them.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fedcredit.errors import Refusal
from fedcredit.governance.catalog_draft import draft_catalog, guess_type
from fedcredit.governance.catalog_fields import USES, USES_BY_CONSENT, CatalogField
from fedcredit.governance.catalog_reading import read_catalog
from fedcredit.governance.predicate_values import Scalar
from fedcredit.governance.predicates import Predicate
from fedcredit.governance.question import PURPOSES
from fedcredit.governance.section import read_toml

__all__ = ["Catalog", "CatalogField"]

_STEP = "catalog"


@dataclass(frozen=True)
class Catalog:
    """The fields of one provider.

    Attributes
    ----------
    provider : str
    version : str
        The provider's own, for records.
    fields : mapping of str to CatalogField
        By name, in the order of the file.
    """

    provider: str
    version: str
    fields: Mapping[str, CatalogField] = field(repr=False)

    # ----------------------------------------------------------------------- where it is from

    @classmethod
    def load(cls, path: str | Path) -> Catalog:
        """Read a catalog file.

        Raises
        ------
        ConfigError
            The file is missing, is no TOML, lacks, misspells or mistypes a key, or contradicts
            itself; file, table, key and fix are named.
        """
        file, values = read_toml(path, what="catalog", writer="fedcredit catalog draft")
        return cls.from_dict(values, file=file)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, file: Path = Path("catalog")) -> Catalog:
        """Read what :meth:`to_dict` returned, or what stands in a file.

        Parameters
        ----------
        values : mapping
        file : Path
            Named in errors.

        Raises
        ------
        ConfigError
            As of :meth:`load`.
        """
        provider, version, fields = read_catalog(values, file)
        return cls(provider, version, fields)

    @classmethod
    def open_for(
        cls, columns: pd.DataFrame | Iterable[str], *, provider: str, key: str | None = None
    ) -> Catalog:
        """Return a catalog that allows everything, for simulations with one's own tables.

        Parameters
        ----------
        columns : pandas.DataFrame or iterable of str
            Types are guessed from a frame; names alone count as numbers.
        provider : str
        key : str, optional
            The column of type id. Without it any column may be the key of an alignment.
        """
        types = (
            {str(name): guess_type(columns[name]) for name in columns.columns}
            if isinstance(columns, pd.DataFrame)
            else dict.fromkeys(columns, "number")
        )
        everything = {
            name: CatalogField(
                name,
                "id" if name == key else kind,
                grade=1,
                sharing="consent",
                uses=("alignment",) if name == key else USES,
                purposes=tuple(PURPOSES),
                min_aggregation=1,
                reason_grain="feature",
            )
            for name, kind in types.items()
        }
        return cls(provider, "open", everything)

    @staticmethod
    def draft(
        frame: pd.DataFrame,
        *,
        provider: str,
        key: str | None = None,
        categorical: Sequence[str] = (),
        withheld: Sequence[str] = (),
    ) -> str:
        """Return the text of a catalog file to edit.

        The same table gives the same text; no value of the table stands in it.

        Parameters
        ----------
        frame : pandas.DataFrame
        provider : str
        key : str, optional
            The column that holds the enterprises' codes.
        categorical : sequence of str
            Columns that are categories whatever their type.
        withheld : sequence of str
            Columns that are drafted as never shared, such as the label.
        """
        return draft_catalog(
            frame, provider=provider, key=key, categorical=categorical, withheld=withheld
        )

    # ------------------------------------------------------------------------ what it allows

    def field(self, name: str, *, shown: Mapping[str, str] | None = None) -> CatalogField:
        """Return a field.

        Raises
        ------
        Refusal
            ``field_unknown``: it is not listed.
        """
        if name not in self.fields:
            raise self._refusal(name, "field_unknown", "is not in the catalog", shown)
        return self.fields[name]

    @staticmethod
    def needs_consent(use: str) -> bool:
        """Whether a use needs the enterprise's consent: scoring and verification always do."""
        return use not in USES or use in USES_BY_CONSENT

    def allowed(self, use: str, purpose: str | None = None) -> tuple[str, ...]:
        """Return the fields that are open for a use, in the order of the catalog.

        Parameters
        ----------
        use : {"alignment", "training", "scoring", "verification"}
        purpose : str, optional
            For scoring and verification; without it, those open for at least one purpose.
        """
        return tuple(n for n, entry in self.fields.items() if entry.denial(use, purpose) is None)

    def require(
        self,
        use: str,
        fields: Iterable[str],
        *,
        purpose: str | None = None,
        rows: int | None = None,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse a use of fields unless every one of them is open for it.

        Parameters
        ----------
        use : {"alignment", "training", "scoring", "verification"}
        fields : iterable of str
        purpose : str, optional
            For scoring and verification. Without it fields must be open for some purpose, which
            is what can be asked of a model before it is used.
        rows : int, optional
            Of the alignment or training job.
        shown : mapping of str to str, optional
            What a refusal calls the fields; their names by default.

        Raises
        ------
        Refusal
            Naming the first field that is not open, and the rule.
        """
        for name in fields:
            denial = self.field(name, shown=shown).denial(use, purpose, rows=rows)
            if denial is not None:
                raise self._refusal(name, denial.code, denial.reason, shown)

    def _refusal(
        self, name: str, code: str, reason: str, shown: Mapping[str, str] | None
    ) -> Refusal:
        called = name if shown is None else shown.get(name, "?")
        return Refusal(
            f"the field {called!r} {reason}.",
            code=code,
            party=self.provider,
            step=_STEP,
            fix="use more rows"
            if code == "aggregation_too_small"
            else "leave it out, or ask the data owner to open it in its catalog",
        )

    def predicates(self) -> dict[str, Predicate]:
        """Return the menu by id, in the order of the catalog; what is closed included."""
        return {p.id: p for entry in self.fields.values() for p in entry.predicates}

    def predicate(
        self,
        predicate: str,
        *,
        threshold: Scalar | datetime.date | None = None,
        tolerance: int | None = None,
        purpose: str | None = None,
    ) -> Predicate:
        """Return a predicate as it is asked.

        Parameters
        ----------
        predicate : str
            Its id.
        threshold, tolerance : optional
            See :meth:`Predicate.at`.
        purpose : str, optional
            See :meth:`require`.

        Raises
        ------
        Refusal
            ``predicate_unknown``, ``threshold_denied``, or one of a field that it reads.
        """
        found = self.predicates().get(predicate)
        if found is None:
            raise Refusal(
                f"the catalog offers no predicate {predicate!r}.",
                code="predicate_unknown",
                party=self.provider,
                step=_STEP,
                fix="ask for one of its menu",
            )
        self.require("verification", dict.fromkeys((found.field, *found.fields)), purpose=purpose)
        try:
            return found.at(threshold, tolerance)
        except Refusal as error:
            error.at(party=self.provider)
            raise

    # ------------------------------------------------------------------------------ settings

    @property
    def key_field(self) -> CatalogField | None:
        """The field of type id that is open for alignment, if there is one."""
        keys = [f for f in self.fields.values() if f.type == "id" and "alignment" in f.uses]
        return keys[0] if keys else None

    def min_aggregation(self, fields: Iterable[str]) -> int:
        """Return the largest minimum aggregation of fields; 1 of none.

        Raises
        ------
        Refusal
            ``field_unknown``.
        """
        return max((self.field(name).min_aggregation for name in fields), default=1)

    def reason_grain(self, name: str) -> str:
        """Return how finely reasons may name a field: feature, group, party or none.

        Raises
        ------
        Refusal
            ``field_unknown``.
        """
        return self.field(name).reason_grain

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values in the shape of the file, with every key of every field."""
        return {
            "catalog": {"provider": self.provider, "version": self.version},
            "fields": {name: entry.to_dict() for name, entry in self.fields.items()},
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the catalog's canonical JSON, in hexadecimal."""
        plain = json.dumps(
            self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(plain.encode()).hexdigest()
