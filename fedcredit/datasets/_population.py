"""A synthetic population of small enterprises, as three parties would each see a part of it.

Every enterprise has three hidden traits: how badly it treats its creditors, how badly its sales
go, and how badly its employment goes. Each party observes mostly one of them, through several
noisy columns; default depends on all three, on the loan against the revenue (which no party sees
alone) and on chance. So a joint model ranks clearly better than any party's own. Nothing here is
estimated from real enterprises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.datasets import _codes
from fedcredit.datasets._fields import (
    CATEGORICAL,
    CONTRIBUTION_STATUS,
    DICTIONARY,
    INDUSTRIES,
    LEGAL_FORMS,
    REGIONS,
    SIZES,
    TAXPAYER_RATINGS,
    TAXPAYER_STATUS,
)
from fedcredit.datasets._held import held_table
from fedcredit.datasets._vertical import Field, VerticalData
from fedcredit.errors import InputError

__all__ = ["SmePopulation", "make_sme_population"]

Floats = NDArray[np.float64]
Table = dict[str, Any]

_TARGET: Final = "90 days overdue within 12 months of the grant of the loan"
# Shares of the enterprises that each party has on file.
_COVERAGE: Final = {"platform": 0.8, "tax": 0.94, "social_security": 0.86}
_OLD_CHECK: Final = 0.003
"""Share of genuine codes whose check character does not hold, at every party alike."""


@dataclass(frozen=True, repr=False, eq=False)
class SmePopulation:
    """The tables of three parties, and what really is the case.

    Attributes
    ----------
    platform, tax, social_security : pandas.DataFrame
        One row per enterprise on the party's file, in an order of its own, with the ids as dirty
        as its system holds them. The label ``default`` is at the platform.
    truth : pandas.DataFrame
        One row per enterprise: clean ``uscc``, the three hidden traits, ``probability`` and
        outcome of ``default``, ``in_<party>``, and ``matches``: whether its id, normalised, is
        the same at all three parties.
    dictionary : dict of str to Field
        Unit and meaning by ``"party.column"``.
    """

    platform: pd.DataFrame
    tax: pd.DataFrame
    social_security: pd.DataFrame
    truth: pd.DataFrame
    dictionary: dict[str, Field]

    def __repr__(self) -> str:
        return (
            f"SmePopulation(n={len(self.truth)}, platform={len(self.platform)}, "
            f"tax={len(self.tax)}, social_security={len(self.social_security)})"
        )

    def vertical(self) -> VerticalData:
        """Return the parties' tables without the truth."""
        return VerticalData(
            name="sme",
            platform=self.platform,
            providers={"tax": self.tax, "social_security": self.social_security},
            key="uscc",
            label="default",
            target=_TARGET,
            categorical={party: list(columns) for party, columns in CATEGORICAL.items()},
            dictionary=self.dictionary,
        )


@dataclass(frozen=True, eq=False)
class _Enterprises:
    """What is true of every enterprise, whoever sees it; arrays of shape (n,)."""

    region: NDArray[np.int64]
    industry: NDArray[np.int64]
    legal_form: NDArray[np.int64]
    age: Floats
    revenue: Floats  # CNY a year
    staff: NDArray[np.int64]
    loan: Floats  # CNY
    conduct: Floats  # the traits: standard normal, larger is worse
    sales: Floats
    employment: Floats


def make_sme_population(
    n: int = 20_000, seed: int = 0, *, dirty: bool = True, default_rate: float = 0.08
) -> SmePopulation:
    """Draw a synthetic population of small enterprises.

    Parameters
    ----------
    n : int
        Enterprises in the economy. The platform knows 80 % of them, the tax bureau 94 %, the
        social security bureau 86 %, independently.
    seed : int
        The same seed gives the same tables.
    dirty : bool
        Hold the ids as real systems do: lower case, full-width characters, blanks and hyphens,
        typing errors, codes from before the standard, blanks, and rows entered twice. Otherwise
        every id is clean and occurs once.
    default_rate : float
        Expected share of defaults, between 0 and 1.

    Returns
    -------
    SmePopulation

    Raises
    ------
    InputError
        If `n` is not between 1 and 100 million, `seed` is negative or `default_rate` not between
        0 and 1.
    """
    if not 1 <= n <= 10**8:
        raise InputError("n must be between 1 and 100,000,000.", step="make population")
    if seed < 0:
        raise InputError("seed must not be negative.", step="make population")
    if not 0 < default_rate < 1:
        raise InputError("default_rate must be between 0 and 1.", step="make population")
    draw, ids, *views = (np.random.default_rng([seed, stream]) for stream in range(5))

    firms = _draw_enterprises(draw, n)
    probability = _default_probability(firms, default_rate)
    default = draw.random(n) < probability
    codes, old_numbers = _draw_codes(ids, firms)
    truth = pd.DataFrame(
        {
            "uscc": codes,
            "conduct": firms.conduct,
            "sales": firms.sales,
            "employment": firms.employment,
            "probability": probability,
            "default": default.astype(np.int8),
        }
    )

    columns = {
        "platform": _platform_columns(views[0], firms, default),
        "tax": _tax_columns(views[1], firms),
        "social_security": _social_security_columns(views[2], firms),
    }
    tables, held = {}, []
    for (party, share), rng in zip(_COVERAGE.items(), views, strict=True):
        inside = rng.random(n) < share
        own_ids = _codes.spoil(rng, codes, old_numbers) if dirty else codes
        truth[f"in_{party}"] = inside
        held.append(np.where(inside, own_ids, ""))
        tables[party] = held_table(
            rng, pd.DataFrame(columns[party]), own_ids, np.flatnonzero(inside), dirty=dirty
        )
    truth["matches"] = (held[0] != "") & (held[0] == held[1]) & (held[1] == held[2])
    return SmePopulation(**tables, truth=truth, dictionary=dict(DICTIONARY))


def _draw_enterprises(rng: np.random.Generator, n: int) -> _Enterprises:
    region = _pick(rng, n, [share for _, _, share in REGIONS])
    industry = _pick(rng, n, [kind.share for kind in INDUSTRIES])
    farming = industry == len(INDUSTRIES) - 1
    form = rng.random(n)
    legal_form = np.where(farming & (form < 0.5), 2, np.where(form < 0.8, 0, 1))
    age = np.clip(rng.gamma(1.6, 4.2, n), 0.3, 35.0)

    traits = rng.standard_normal((3, n))
    common = rng.standard_normal(n)
    conduct, sales, employment = np.sqrt(0.8) * traits + np.sqrt(0.2) * common

    typical = np.array([kind.log_revenue for kind in INDUSTRIES])[industry]
    log_revenue = (
        typical
        + 0.35 * np.log(age / 6)
        - 1.3 * (legal_form == 1)
        - 0.15 * sales
        + rng.standard_normal(n)
    )
    usual_staff = np.array([kind.log_staff for kind in INDUSTRIES])[industry]
    expected = np.exp(
        usual_staff + 0.6 * (log_revenue - typical) - 0.15 * employment + _noise(rng, n, 0.4)
    )
    staff = rng.poisson(np.minimum(expected, 3000))
    staff[(legal_form != 0) & (rng.random(n) < 0.35)] = 0  # the owner's family alone
    loan = np.exp(log_revenue - 1.9 + 0.1 * conduct + _noise(rng, n, 0.75)) * 1e4
    return _Enterprises(
        region=region,
        industry=industry,
        legal_form=legal_form,
        age=age,
        revenue=np.exp(log_revenue) * 1e4,
        staff=staff,
        loan=np.clip(np.round(loan, -3), 1e4, 3e7),
        conduct=conduct,
        sales=sales,
        employment=employment,
    )


def _default_probability(firms: _Enterprises, rate: float) -> Floats:
    leverage = np.clip(np.log(firms.loan / firms.revenue) + 1.9, -2.5, 2.5)
    score = (
        1.15 * firms.conduct
        + 0.9 * firms.sales
        + 0.75 * firms.employment
        + 0.3 * firms.sales * firms.employment
        + 0.55 * leverage
        + np.array([kind.risk for kind in INDUSTRIES])[firms.industry]
        + 0.5 * (firms.age < 2)
    )
    low, high = -30.0, 30.0
    for _ in range(40):  # the intercept at which the mean is the wanted rate
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(score + middle).mean() < rate else (low, middle)
    return _sigmoid(score + middle)


def _draw_codes(rng: np.random.Generator, firms: _Enterprises) -> tuple[NDArray[Any], NDArray[Any]]:
    regions = np.array([code for code, _, _ in REGIONS])[firms.region]
    codes = _codes.make_codes(rng, regions, newer=firms.age < 8, entity=firms.legal_form + 1)
    for row in np.flatnonzero((firms.age > 6) & (rng.random(len(codes)) < _OLD_CHECK)):
        codes[row] = _codes.wrong_check(codes[row], int(rng.integers(1, 31)))
    return codes, _codes.registration_numbers(rng, regions)


def _platform_columns(
    rng: np.random.Generator, firms: _Enterprises, default: NDArray[np.bool_]
) -> Table:
    n = len(firms.age)
    bad, size = firms.conduct, np.log(firms.revenue / 1e6)
    loans = rng.poisson(np.exp(0.4 + 0.15 * size + 0.2 * bad))
    no_loan = loans == 0
    overdue = rng.random(n) < _sigmoid(-2.0 + 1.4 * bad)
    days = np.where(overdue, np.ceil(rng.gamma(1.2, np.exp(2.2 + 0.4 * bad))), 0.0)
    utilisation = _sigmoid(0.9 * bad + _noise(rng, n, 1.0))
    provinces = sorted({name for _, name, _ in REGIONS})
    at = np.array([provinces.index(name) for _, name, _ in REGIONS])
    capital = np.exp(4.3 + 0.5 * size + _noise(rng, n, 0.9)) * (firms.legal_form != 1) + 3
    return {
        "region": pd.Categorical.from_codes(at[firms.region], provinces),
        "industry": pd.Categorical.from_codes(firms.industry, [k.name for k in INDUSTRIES]),
        "legal_form": pd.Categorical.from_codes(firms.legal_form, list(LEGAL_FORMS)),
        "size": pd.Categorical.from_codes(
            np.searchsorted([3e6, 3e7], firms.revenue * np.exp(_noise(rng, n, 0.3))), list(SIZES)
        ),
        "registration_years": firms.age.round(1),
        "registered_capital": capital.round(),
        "penalties_36m": rng.poisson(np.exp(-1.9 + 0.5 * bad)),
        "judgments_36m": rng.poisson(np.exp(-2.2 + 0.6 * bad)),
        "months_on_platform": np.floor(rng.random(n) * np.minimum(firms.age, 6) * 12).astype(int),
        "enquiries_6m": rng.poisson(np.exp(0.6 + 0.4 * bad)),
        "open_loans": loans,
        "credit_utilisation": _missing(utilisation.round(3), no_loan),
        "max_days_overdue_12m": _missing(days, no_loan),
        "loan_amount": firms.loan,
        "default": default.astype(np.int8),
    }


def _tax_columns(rng: np.random.Generator, firms: _Enterprises) -> Table:
    n = len(firms.age)
    bad = firms.sales
    revenue = firms.revenue * np.exp(_noise(rng, n, 0.1))
    farming = firms.industry == len(INDUSTRIES) - 1
    small = revenue < 5e6
    exempt = small & ((firms.legal_form == 1) & (rng.random(n) < 0.4) | farming)
    invoices = rng.poisson(np.exp(np.clip(0.8 * np.log(revenue / 1e6) + 3.6, -4, 11)))
    invoices[exempt & (rng.random(n) < 0.5)] = 0
    none = invoices == 0
    burden = np.array([kind.tax_burden for kind in INDUSTRIES])[firms.industry]
    paid = revenue * burden * np.exp(-0.15 * bad + _noise(rng, n, 0.45))
    owing = rng.random(n) < _sigmoid(-2.4 + 1.0 * bad)
    arrears = np.where(owing, paid * rng.gamma(0.8, 0.25, n), 0.0)
    late = rng.poisson(np.exp(-1.1 + 0.55 * bad))
    # The rating falls with conduct towards the bureau; new taxpayers are M, the smallest unrated.
    points = 90 - 6 * late - 18 * owing + _noise(rng, n, 9.0)
    rating = np.select([firms.age < 3, points >= 90, points >= 70, points >= 40], [2, 0, 1, 3], 4)
    rating[(firms.legal_form == 1) & small] = -1
    return {
        "taxpayer_status": pd.Categorical.from_codes(
            np.where(exempt, 2, small.astype(int)), list(TAXPAYER_STATUS)
        ),
        "taxpayer_rating": pd.Categorical.from_codes(rating, list(TAXPAYER_RATINGS)),
        "annual_revenue": revenue.round(),
        "revenue_growth": _missing(
            (np.exp(0.06 - 0.14 * bad + _noise(rng, n, 0.22)) - 1).round(3), firms.age < 2
        ),
        "annual_paid": _missing(paid.round(), exempt),
        "invoice_count": invoices,
        "invoice_volatility": _missing(
            np.exp(-0.9 + 0.25 * bad + _noise(rng, n, 0.35)).round(3), none
        ),
        "top5_buyer_share": _missing(
            _sigmoid(0.1 + 0.4 * bad - 0.12 * np.log1p(invoices) + _noise(rng, n, 0.8)).round(3),
            none,
        ),
        "void_invoice_share": _missing(
            rng.binomial(np.maximum(invoices, 1), _sigmoid(-3.6 + 0.35 * bad))
            / np.maximum(invoices, 1),
            none,
        ),
        "zero_declaration_months": rng.binomial(12, _sigmoid(-3.0 + 0.7 * bad)),
        "late_filings_12m": late,
        "arrears": _missing(arrears.round(), exempt),
    }


def _social_security_columns(rng: np.random.Generator, firms: _Enterprises) -> Table:
    n = len(firms.age)
    bad, staff = firms.employment, firms.staff
    none = staff == 0
    deferred = ~none & (rng.random(n) < 0.06)
    base = np.exp(8.85 + 0.06 * np.log1p(staff) - 0.1 * bad + _noise(rng, n, 0.25))
    owing = rng.random(n) < _sigmoid(-1.9 + 1.1 * bad)
    months = np.where(owing, np.minimum(12, 1 + rng.poisson(np.exp(0.4 + 0.4 * bad))), 0)
    contributions = staff * base * 12 * 0.37 * (1 - np.where(deferred, 6, months) / 12)
    leavers = rng.binomial(2 * np.maximum(staff, 1), _sigmoid(-2.1 + 0.45 * bad))
    tenure = firms.age * _sigmoid(-0.4 - 0.4 * bad + _noise(rng, n, 0.6))
    return {
        "contribution_status": pd.Categorical.from_codes(
            np.where(none, 2, deferred.astype(int)), list(CONTRIBUTION_STATUS)
        ),
        "insured_staff": staff,
        "staff_change_12m": _missing(
            (np.exp(0.02 - 0.13 * bad + _noise(rng, n, 0.16)) - 1).round(3), none | (firms.age < 2)
        ),
        "average_base": _missing(base.round(), none),
        "annual_contributions": contributions.round(),
        "arrears_months": _missing(months.astype(float), none | deferred),
        "staff_turnover": _missing((leavers / np.maximum(staff, 1)).round(3), none),
        "average_tenure": _missing(tenure.round(2), none),
    }


def _pick(rng: np.random.Generator, n: int, shares: list[float]) -> NDArray[np.int64]:
    return rng.choice(len(shares), n, p=np.divide(shares, sum(shares)))


def _noise(rng: np.random.Generator, n: int, scale: float) -> Floats:
    return scale * rng.standard_normal(n)


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _missing(values: Floats, where: NDArray[np.bool_]) -> Floats:
    return np.where(where, np.nan, values)
