"""Two public credit data sets of persons, cut into what three parties would hold.

Neither set has an id, so every row gets a made-up, well-formed unified social credit code.
"""

from __future__ import annotations

import os
from typing import Final

import pandas as pd

from fedcredit.datasets import _files
from fedcredit.datasets._held import KEY, keyed_tables
from fedcredit.datasets._vertical import Field, VerticalData

__all__ = ["load_default_credit", "load_give_me_some_credit"]

Path = str | os.PathLike[str]

_ID_FIELD: Final = Field("code", "Made-up unified social credit code; the source has no id.")
_MONTHS: Final = ("September", "August", "July", "June", "May", "April")
_STATUS: Final = tuple(f"PAY_{i}" for i in (0, 2, 3, 4, 5, 6))
_BILLS: Final = tuple(f"BILL_AMT{i}" for i in range(1, 7))
_PAID: Final = tuple(f"PAY_AMT{i}" for i in range(1, 7))

# In the order of the source's columns X1 to X23.
_DEFAULT_CREDIT: Final[dict[str, Field]] = {
    "LIMIT_BAL": Field("TWD", "Credit granted to the person and the family."),
    "SEX": Field("category", "1 male, 2 female."),
    "EDUCATION": Field("category", "1 graduate school, 2 university, 3 high school, others."),
    "MARRIAGE": Field("category", "1 married, 2 single, others."),
    "AGE": Field("years", "Age."),
    **{
        column: Field("months", f"Delay of the payment in {month} 2005; 0 and below: none.")
        for column, month in zip(_STATUS, _MONTHS, strict=True)
    },
    **{
        column: Field("TWD", f"Bill of {month} 2005.")
        for column, month in zip(_BILLS, _MONTHS, strict=True)
    },
    **{
        column: Field("TWD", f"Paid in {month} 2005.")
        for column, month in zip(_PAID, _MONTHS, strict=True)
    },
}
_DEFAULT_CREDIT_SPLIT: Final = {
    "platform": [*_STATUS, *_BILLS],
    "tax": ["LIMIT_BAL", *_PAID],
    "social_security": ["SEX", "EDUCATION", "MARRIAGE", "AGE"],
}

_GIVE_ME_SOME_CREDIT: Final[dict[str, Field]] = {
    "RevolvingUtilizationOfUnsecuredLines": Field("ratio", "Balances over limits, unsecured."),
    "age": Field("years", "Age."),
    "NumberOfTime30-59DaysPastDueNotWorse": Field(
        "count", "Delays of 30 to 59 days in 2 years; 96 and 98 are codes."
    ),
    "DebtRatio": Field("ratio", "Debt payments and living costs over gross income."),
    "MonthlyIncome": Field("USD/month", "Gross income; missing where not declared."),
    "NumberOfOpenCreditLinesAndLoans": Field("count", "Open loans and credit lines."),
    "NumberOfTimes90DaysLate": Field("count", "Delays of 90 days and more; 96 and 98 are codes."),
    "NumberRealEstateLoansOrLines": Field("count", "Mortgages and real-estate loans."),
    "NumberOfTime60-89DaysPastDueNotWorse": Field(
        "count", "Delays of 60 to 89 days in 2 years; 96 and 98 are codes."
    ),
    "NumberOfDependents": Field("count", "Dependents; missing where not declared."),
}
_GIVE_ME_SOME_CREDIT_SPLIT: Final = {
    "platform": [
        "RevolvingUtilizationOfUnsecuredLines",
        "NumberOfTime30-59DaysPastDueNotWorse",
        "NumberOfOpenCreditLinesAndLoans",
        "NumberOfTimes90DaysLate",
        "NumberOfTime60-89DaysPastDueNotWorse",
    ],
    "tax": ["MonthlyIncome", "DebtRatio", "NumberRealEstateLoansOrLines"],
    "social_security": ["age", "NumberOfDependents"],
}


def load_default_credit(
    path: Path | None = None,
    *,
    fetch: bool = False,
    n: int | None = None,
    seed: int = 0,
    dirty: bool = False,
) -> VerticalData:
    """Load "default of credit card clients" (Yeh and Lien, 2009; UCI repository no. 350).

    30,000 clients of a bank in Taiwan, 22.12 % of whom default. Tax: limit and sums paid; social
    security: sex, education, marriage, age; platform: payment status, bills and the label, which
    is called ``default`` here (``default.payment.next.month`` in the source). The categories stay
    the source's integer codes.

    Parameters
    ----------
    path : path-like, optional
        ``UCI_Credit_Card.csv[.gz]``, or a folder that holds it or ``default_credit/``; by default
        ``$FEDCREDIT_DATA``.
    fetch : bool
        Download openml.org data set 42477 instead.
    n : int, optional
        Take a random sample of so many rows.
    seed : int
        For the sample and for `dirty`.
    dirty : bool
        Let every party miss some rows, hold the others in an order of its own, and write the ids
        as real systems do. Otherwise row i is the same client at every party.

    Returns
    -------
    VerticalData

    Raises
    ------
    ConfigError
        If the file is not there or cannot be fetched.
    InputError
        If the table is not that data set, or `n` or `seed` does not fit.
    """
    name = "default-credit"
    if fetch:
        table = _files.fetch_openml(42477, rows=30_000, name=name)
        # That copy has the source's second header, X1 to X23 and Y, in either case.
        short = {f"x{i}": column for i, column in enumerate(_DEFAULT_CREDIT, start=1)}
        table = table.rename(columns=lambda column: short.get(str(column).lower(), column))
        table = table.rename(columns={"y": "default", "Y": "default"})
    else:
        file = _files.locate(path, "default_credit", "UCI_Credit_Card.csv", name=name)
        table = _files.read_csv(file, name=name)
    table = table.rename(
        columns={
            "default.payment.next.month": "default",
            "default payment next month": "default",
        }
    )
    return _cut(
        table,
        name=name,
        label="default",
        target="default on the payment of the next month (October 2005)",
        words=("yes", "no"),
        split=_DEFAULT_CREDIT_SPLIT,
        fields=_DEFAULT_CREDIT,
        n=n,
        seed=seed,
        dirty=dirty,
    )


def load_give_me_some_credit(
    path: Path | None = None,
    *,
    fetch: bool = False,
    n: int | None = None,
    seed: int = 0,
    dirty: bool = False,
) -> VerticalData:
    """Load "Give Me Some Credit" (Kaggle, 2011), the training file.

    150,000 borrowers, 6.684 % of whom get into serious delinquency. Tax: income, debt ratio, real
    estate loans; social security: age and dependents; platform: the other columns and the label
    ``SeriousDlqin2yrs``. Income is missing for 29,731 borrowers, dependents for 3,924.

    Parameters
    ----------
    path : path-like, optional
        ``cs-training.csv[.gz]``, or a folder that holds it or ``give_me_some_credit/``; by
        default ``$FEDCREDIT_DATA``.
    fetch : bool
        Download openml.org data set 46929 instead.
    n : int, optional
        Take a random sample of so many rows.
    seed : int
        For the sample and for `dirty`.
    dirty : bool
        As in `load_default_credit`.

    Returns
    -------
    VerticalData

    Raises
    ------
    ConfigError
        If the file is not there or cannot be fetched.
    InputError
        If the table is not that data set, or `n` or `seed` does not fit.
    """
    name, label = "give-me-some-credit", "SeriousDlqin2yrs"
    if fetch:
        table = _files.fetch_openml(46929, rows=150_000, name=name)
    else:
        file = _files.locate(path, "give_me_some_credit", "cs-training.csv", name=name)
        table = _files.read_csv(file, name=name)
    return _cut(
        table.rename(columns={"FinancialDistressNextTwoYears": label}),
        name=name,
        label=label,
        target="90 days overdue or worse within two years",
        words=("Yes", "No"),
        split=_GIVE_ME_SOME_CREDIT_SPLIT,
        fields=_GIVE_ME_SOME_CREDIT,
        n=n,
        seed=seed,
        dirty=dirty,
    )


def _cut(
    table: pd.DataFrame,
    *,
    name: str,
    label: str,
    target: str,
    words: tuple[str, str],
    split: dict[str, list[str]],
    fields: dict[str, Field],
    n: int | None,
    seed: int,
    dirty: bool,
) -> VerticalData:
    """Check the columns, take the sample, and give each party its columns and an id."""
    _files.require_columns(table, [*fields, label], name=name)
    table = _files.sample_rows(table, n, seed, name=name)
    features = {party: table[columns].copy() for party, columns in split.items()}
    features["platform"][label] = _files.binary_label(
        table[label], event=words[0], no_event=words[1], name=name
    )
    tables = keyed_tables(features, seed=seed, dirty=dirty)
    dictionary: dict[str, Field] = {}
    for party, columns in split.items():
        dictionary[f"{party}.{KEY}"] = _ID_FIELD
        dictionary |= {f"{party}.{column}": fields[column] for column in columns}
    dictionary[f"platform.{label}"] = Field("0/1", target[0].upper() + target[1:] + ".")
    return VerticalData(
        name=name,
        platform=tables.pop("platform"),
        providers=tables,
        key=KEY,
        label=label,
        target=target,
        categorical={
            party: [column for column in columns if fields[column].unit == "category"]
            for party, columns in split.items()
        },
        dictionary=dictionary,
    )
