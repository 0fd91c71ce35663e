"""A small federation whose models of every kind are served to an institution, in this process.

Fitting is slow and done once per process: `world(k)` is kept. A `Case` on top of it has gates,
logs, budgets and clocks of its own, so that cases know nothing of each other.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

import fedcredit as fc
from fedcredit.governance.budgets import BudgetRules
from fedcredit.governance.catalog import Catalog
from fedcredit.governance.enterprise import Enterprise
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import KEYS
from fedcredit.governance.usage import outcome_table
from fedcredit.models.card_part import CardPart
from fedcredit.models.scoring.simulation import SimulatedService
from fedcredit.models.simulate import OWN_TABLES
from fedcredit.uscc import normalise
from fedcredit.wire import Transcript
from tests.support.served_trees import sme_tables

BANK, PLATFORM = "bank", "platform"
NOW, DAY = 1_800_000_000.0, 86_400.0
CARD, WOE, NUMBERS, TREES = "sme-card@1", "sme-woe@1", "sme-numbers@1", "sme-trees@1"
#: Platform and tax alone; with the first as its fallback; with features that the bank supplies.
LITE, CAREFUL, OWN = "sme-lite@1", "sme-careful@1", "sme-own@1"
LINEAR = (CARD, WOE, NUMBERS)
SUPPLIED = ("registration_years", "region")
BANDS = {"quartz": -1e9, "basalt": 560, "garnet": 600}

COLUMNS = {
    "platform": ["region", "registration_years", "enquiries_6m"],
    "tax": ["zero_declaration_months", "late_filings_12m", "arrears"],
    "social": ["insured_staff", "arrears_months"],
    "bureau": ["months_on_platform", "credit_utilisation"],
    "invoices": ["invoice_count", "taxpayer_rating"],
    "staff": ["staff_turnover"],
}
#: Complete columns of numbers.
NUMERIC = [
    "registration_years",
    "enquiries_6m",
    "tax.zero_declaration_months",
    "tax.late_filings_12m",
    "social.insured_staff",
    "bureau.months_on_platform",
    "invoices.invoice_count",
    "staff.staff_turnover",
]
MENU = [
    {
        "id": "filed_late_at_most",
        "text": "at most {threshold} filings were late",
        "operator": "<=",
        "thresholds": list(range(24)),
    }
]
DECLARED = [
    {
        "id": "declared_zero_months",
        "text": "months without a declaration are as declared",
        "operator": "declared",
        "resolution": 1,
        "tolerances": [0, 2],
    }
]
_ALL = {"min_iv": None, "max_missing": None, "max_correlation": None, "max_vif": None}


@functools.cache
def _registry():
    return KeyRegistry(Ledger("sqlite://", party="registry"), "registry")


@functools.cache
def _enterprise(code):
    return Enterprise.generate(code)


@functools.cache
def _key_row(enterprise):
    """The row of an enterprise's key in a registry; a thousand of them are then copied at once."""
    registry = _registry()
    with registry._ledger.transaction() as tx:
        kid = registry.add("subject", enterprise.uscc, enterprise.public_key, NOW - DAY, tx=tx)
        return dict(tx.execute(KEYS.select().where(KEYS.c.kid == kid)).one()._mapping)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def changed(catalog, field, **changes):
    """The catalog with something else about a field; without it if `changes` is empty."""
    plain = catalog.to_dict()
    if changes:
        plain["fields"][field] = plain["fields"][field] | changes
    else:
        del plain["fields"][field]
    return Catalog.from_dict(plain)


def _tables(providers, rows):
    tables = {}
    for party, table in sme_tables(rows, providers).items():
        kept = ["uscc", *COLUMNS[party], *(["default"] if party == PLATFORM else [])]
        tables[party] = table[kept].reset_index(drop=True)
    if "staff" in tables:
        column = tables["staff"]["staff_turnover"]
        tables["staff"]["staff_turnover"] = column.fillna(column.median())
    return tables


def _catalogs(tables):
    made = {
        name: Catalog.open_for(table, provider=name, key="uscc")
        for name, table in tables.items()
        if name != PLATFORM
    }
    made["tax"] = changed(made["tax"], "late_filings_12m", predicates=MENU)
    made["tax"] = changed(made["tax"], "zero_declaration_months", predicates=DECLARED)
    return made


class World:
    """Tables, an aligned frame, and models that are fitted when they are asked for."""

    def __init__(self, providers, rows):
        self.tables = _tables(providers, rows)
        self.catalogs = _catalogs(self.tables)
        self.fed = fc.simulate(
            **self.tables,
            policy=replace(OWN_TABLES, max_revealed_predictors=1_000, min_intersection=1),
            catalog=self.catalogs,
            threads=1,
        )
        # Deploying is logged, which needs gates.
        SimulatedService(self.fed, clock=Clock())
        self.frame = self.fed.align(on="uscc")
        self.providers = self.fed.providers
        self._deployed = {}

    @functools.cached_property
    def rows(self):
        """Where every enterprise stands in every party's table, by its normalised code."""
        out = {}
        for name, table in self.tables.items():
            report = normalise(table["uscc"].tolist(), kind="uscc")
            out[name] = {
                code.decode(): row for code, row in zip(report.ids, report.rows, strict=True)
            }
        return out

    @functools.cached_property
    def codes(self):
        """The enterprises of the frame, in its order."""
        report = normalise(self.frame.ids.tolist(), kind="uscc")
        assert len(report) == len(self.frame)
        return [code.decode() for code in report.ids]

    @functools.cached_property
    def strangers(self):
        """Enterprises of the platform of which some provider has no record."""
        known = [self.rows[name] for name in self.providers]
        return [code for code in self.rows[PLATFORM] if not all(code in one for one in known)]

    @staticmethod
    def enterprise(code):
        return _enterprise(code)

    # ------------------------------------------------------------------------------- models

    @functools.cached_property
    def card(self):
        return fc.VerticalScorecard(
            binner={"max_bins": 4, "prebins": 8},
            selector=_ALL,
            sign_constraints=None,
            polish_steps=0,
        ).fit(self.frame, "default")

    @functools.cached_property
    def woe(self):
        names = [c.name for c in self.card.share_.characteristics]
        return fc.VerticalLogisticRegression(
            binner=self.card.scoring_binner_, features=names, polish_steps=0
        ).fit(self.frame, "default")

    @functools.cached_property
    def numbers(self):
        known = {f"{p}.{c}" for p, columns in COLUMNS.items() for c in columns if p in self.tables}
        names = [n for n in NUMERIC if n in known or f"{PLATFORM}.{n}" in known]
        return fc.VerticalLogisticRegression(features=names, polish_steps=0).fit(
            self.frame, "default"
        )

    @functools.cached_property
    def trees(self):
        return fc.VerticalGBDTClassifier(n_estimators=6, max_depth=4, learning_rate=0.4).fit(
            self.frame, "default"
        )

    @functools.cached_property
    def lite(self):
        names = ["registration_years", "tax.zero_declaration_months", "tax.late_filings_12m"]
        return fc.VerticalGBDTClassifier(n_estimators=2, max_depth=3, features=names).fit(
            self.frame, "default"
        )

    def deploy(self, target):
        """Serve one of the models above, at the first call."""
        if target not in self._deployed:
            if target == CAREFUL:
                self.deploy(LITE)
            model, options = {
                CARD: ("card", {"bands": BANDS}),
                WOE: ("woe", {}),
                NUMBERS: ("numbers", {}),
                TREES: ("trees", {}),
                LITE: ("lite", {}),
                CAREFUL: ("card", {"fallback": LITE, "bands": BANDS}),
                OWN: ("card", {"own_features": SUPPLIED, "bands": BANDS}),
            }[target]
            self._deployed[target] = self.fed.deploy(getattr(self, model), target, **options)
        return self._deployed[target]

    def pooled_points(self, codes, model=None):
        """Points of the card from all parties' tables of points, added up by hand."""
        model = model or self.card
        total = np.zeros(len(codes))
        parts = [CardPart.of_platform(model)]
        parts += [
            CardPart.of_provider(self.fed.engines[name], model.model_id_)
            for name in self.providers
            if model.share_.of(name)
        ]
        for part in parts:
            rows = [self.rows[part.party].get(code, -1) for code in codes]
            table = self.tables[part.party].reindex(rows)
            total += part.base_points
            for item in part.to_dict()["characteristics"]:
                total += [_points(item, value) for value in table[item["name"]]]
        return total


def _points(item, value):
    """Points of one value, by the text of a card: half-open intervals, groups, missing last."""
    rule, points = item["rule"], item["points"]
    missing = pd.isna(value)
    if rule["kind"] == "numeric":
        if not missing:
            return points[sum(split <= value for split in rule["splits"])]
    else:
        groups = {code: k for k, codes in enumerate(rule["groups"]) for code in codes}
        code = item["categories"].index(value) if value in item["categories"] else None
        if code in groups:
            return points[groups[code]]
    # Of too few missing values the bin is another one.
    return points[rule["folded"][-1]]


@functools.cache
def world(providers=3, rows=1_750):
    return World(providers, rows)


class Case:
    """Gates, logs and an institution of their own, over the models of a world.

    `ask` and `verify` are those of the institution, with consents made on the way.
    """

    def __init__(self, providers=3, models=(CARD,), *, budgets=None, keep=False):
        self.world = world(providers)
        self.clock = Clock()
        self.service = SimulatedService(self.world.fed, budgets=budgets, clock=self.clock)
        if keep:
            self.service.transcript = Transcript(keep=True)
        for target in models:
            self.world.deploy(target)
        self.desks = self.service.desks
        self.parties = (PLATFORM, *self.world.providers)
        self.bank = self.service.accede(BANK)
        self.registered = set()

    def gate(self, party):
        return self.desks[party].gate

    def codes(self, n, start=0):
        """Enterprises that all parties know."""
        return self.world.codes[start : start + n]

    def register(self, codes, parties=None):
        """Enter the keys of enterprises, at all parties or some."""
        new = [code for code in dict.fromkeys(codes) if code not in self.registered]
        self.registered.update(new)
        rows = [_key_row(self.world.enterprise(code)) for code in new]
        for party in (parties or self.parties) if rows else ():
            with self.gate(party).ledger.transaction() as tx:
                tx.execute(KEYS.insert(), rows)

    def grant(self, code, *scope, **changes):
        """A consent for scores of the card and reasons, or for something else."""
        settings = {
            "institution": BANK,
            "purpose": "credit_granting",
            "scope": list(scope) or [f"score:{CARD}", "reasons"],
            "now": self.clock(),
        }
        return self.world.enterprise(code).grant(**(settings | changes))

    def consents(self, codes, *models, **changes):
        self.register(codes)
        scope = [f"score:{model}" for model in models or (CARD,)]
        return [self.grant(code, *scope, "reasons", **changes) for code in codes]

    def ask(self, code=None, consent=None, *, model=CARD, **options):
        code = code or self.codes(1)[0]
        if consent is None:
            self.register([code])
            consent = self.grant(code, f"score:{model}", "reasons")
        return self.bank.score(code, consent, model=model, **options)

    def verify(self, code=None, consent=None, *, predicate="filed_late_at_most", **options):
        code = code or self.codes(1)[0]
        if consent is None:
            self.register([code])
            consent = self.grant(code, f"verify:tax.{predicate}")
        return self.bank.verify(code, consent, provider="tax", predicate=predicate, **options)

    # ------------------------------------------------------------------------ what was logged

    def entries(self, party, *kinds):
        return [e for e in self.gate(party).log.entries() if not kinds or e.kind in kinds]

    def outcomes(self, party):
        """How often each outcome came, from the usage table."""
        table = outcome_table(self.gate(party).ledger, institution=BANK)
        return dict(zip(table["outcome"], table["questions"].tolist(), strict=True))

    def answered(self, party):
        return len(self.entries(party, "score", "verify"))


def generous(**changes):
    """Budgets that no test of something else runs into."""
    wide = {
        name: 10**7
        for name, value in BudgetRules().__dict__.items()
        if isinstance(value, int) and name != "unknown_from"
    }
    return BudgetRules(**(wide | {"unknown_from": 10**7, "max_unknown_share": 1.0} | changes))


def own_values(case, codes):
    """The platform's values of the features that the bank supplies."""
    table = case.world.tables[PLATFORM]
    rows = [case.world.rows[PLATFORM][code] for code in codes]
    return table.loc[rows, list(SUPPLIED)].reset_index(drop=True)


def captured_sides(monkeypatch):
    """Collect what every member of the sessions to come agrees on: keys and encryption keys."""
    from fedcredit.models.scoring import server, talks

    sides = SimpleNamespace(institution=[], parties={})
    start_institution, start_party = talks.start_institution, server.start_party

    async def institution(*arguments, **options):
        sides.institution.append(await start_institution(*arguments, **options))
        return sides.institution[-1]

    async def party(peers, me, **options):
        sides.parties[me] = await start_party(peers, me, **options)
        return sides.parties[me]

    monkeypatch.setattr(talks, "start_institution", institution)
    monkeypatch.setattr(server, "start_party", party)
    return sides
