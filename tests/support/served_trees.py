"""Forests that are served by all parties in one process, and tables to grow them on."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

import numpy as np

import fedcredit as fc
from fedcredit.crypto.encscore_format import WORD_BITS
from fedcredit.models.scoring.trees import ServedTrees, forest_parts
from fedcredit.protocols.tree_words import party_words, platform_words, read_words


def record_of(frame, model, name):
    """What a provider keeps of a model."""
    engine = frame.federation.engines[name]
    return json.loads(engine.store.get("model", model.model_id_))


@dataclass
class Served:
    """The parts of a forest at all parties, each with its own rows of a frame."""

    model: object
    frame: object
    platform: ServedTrees
    providers: dict[str, ServedTrees] = field(default_factory=dict)

    @classmethod
    def of(cls, model, frame):
        part, positions = forest_parts(model)
        providers = {
            name: ServedTrees.of_provider(name, record_of(frame, model, name), positions[name])
            for name in part.owners
        }
        return cls(model, frame, part, providers)

    def tables(self):
        """The own table of every party, the platform's first, in the order of the frame."""
        engines, frame = self.frame.federation.engines, self.frame
        own = {name: engines[name].rows(frame.frame_id, frame.rows) for name in self.providers}
        return {"platform": frame.platform, **own}

    def parts(self):
        return {"platform": self.platform, **self.providers}

    def reaches(self):
        tables = self.tables()
        return {name: part.reach(tables[name]) for name, part in self.parts().items()}

    def scores(self, seed=None):
        """Raw scores as the institution reads them, from words with shares of zero."""
        seed = secrets.token_bytes(32) if seed is None else seed
        reaches = self.reaches()
        words = [platform_words(reaches.pop("platform"), self.platform.leaves, seed)]
        words += [party_words(reach, seed) for reach in reaches.values()]
        total = sum_of(with_zero_shares(words))
        values, ok = read_words(total, self.platform.n_trees, self.platform.n_leaves)
        return self.platform.raw(values), ok


def with_zero_shares(words):
    """Add random words that cancel out, as the parties do before they send."""
    rng = np.random.default_rng(9)
    shape = words[0].shape
    shares = [rng.integers(0, 1 << WORD_BITS, shape, np.uint64) for _ in words[1:]]
    last = np.zeros(shape, np.uint64)
    for share in shares:
        last -= share
    mask = np.uint64((1 << WORD_BITS) - 1)
    return [(w + s) & mask for w, s in zip(words, [*shares, last], strict=True)]


def sum_of(words):
    total = np.zeros_like(words[0])
    for word in words:
        total += word
    return total


def sme_tables(rows, n_providers, seed=7):
    """Tables of enterprises with missing values and categories at 1 to 5 providers."""
    population = fc.datasets.make_sme_population(rows, seed=seed)
    key = "uscc"
    tax, social, platform = population.tax, population.social_security, population.platform
    lending = ["legal_form", "months_on_platform", "credit_utilisation", "open_loans"]
    parts = {"tax": tax, "social": social, "bureau": platform[[key, *lending]]}
    if n_providers > 3:
        invoices = ["invoice_count", "invoice_volatility", "top5_buyer_share", "taxpayer_rating"]
        staff = ["staff_turnover", "average_tenure", "staff_change_12m"]
        parts["tax"], parts["invoices"] = tax.drop(columns=invoices), tax[[key, *invoices]]
        parts["social"], parts["staff"] = social.drop(columns=staff), social[[key, *staff]]
    parts = dict(list(parts.items())[:n_providers])
    if "bureau" in parts:
        platform = platform.drop(columns=lending)
    return {"platform": platform, **parts}
