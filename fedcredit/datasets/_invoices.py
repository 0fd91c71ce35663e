"""Enterprises and their VAT invoices: the data of CUMCM 2020, problem C.

The Chinese undergraduate modelling contest published 123 small enterprises with a credit record
and 302 without, and 1.1 million of their invoices from October 2016 to February 2020. Here the
incoming invoices are the tax bureau's, the outgoing ones the platform's.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np
import pandas as pd

from fedcredit.datasets import _files
from fedcredit.datasets._held import KEY, keyed_tables
from fedcredit.datasets._vertical import Field, VerticalData
from fedcredit.errors import InputError

__all__ = ["aggregate_invoices", "load_cumcm2020c"]

_NAME: Final = "cumcm2020c"
_FIRM: Final = "企业代号"
_COLUMNS: Final = {
    _FIRM: "firm",
    "开票日期": "date",
    "销方单位代号": "counterparty",
    "购方单位代号": "counterparty",
    "金额": "amount",
    "税额": "tax",
    "发票状态": "status",
}
_VALID, _VOID = "有效发票", "作废发票"
# The last month of the files is cut off at its 21st day, so years end with the month before.
_YEAR_ENDS: Final = "2020-01"
_TARGET: Final = "default according to the bank's record"

_MEASURES: Final[dict[str, Field]] = {
    "invoices": Field("count", "{} invoices, without exact duplicates, valid or void."),
    "void_share": Field("ratio", "Void over all {} invoices; missing without invoices."),
    "negative_share": Field("ratio", "Negative over valid {} invoices; missing without any."),
    "amount": Field("CNY", "Sum of the valid {} invoices before tax, negative ones set off."),
    "tax": Field("CNY", "VAT of the valid {} invoices, negative ones set off."),
    "refund_share": Field("ratio", "Negative over positive sum of the valid {} invoices."),
    "mean_invoice": Field("CNY", "Mean amount of the valid positive {} invoices."),
    "counterparties": Field("count", "Counterparties of the valid {} invoices."),
    "top_share": Field("ratio", "Largest counterparty's share of the {} amounts."),
    "concentration": Field("index 0..1", "Herfindahl index of the {} amounts by counterparty."),
    "active_months": Field("months", "Months with a valid {} invoice."),
    "volatility": Field(
        "ratio", "Std / mean of the monthly {} sums, first to last active month; missing under 3."
    ),
    "growth": Field(
        "ratio", "{} sum of Feb 2019 to Jan 2020 over the year before, less 1; missing without."
    ),
}

_ADDITIVE: Final = ["invoices", "amount", "tax", "counterparties", "active_months"]


def load_cumcm2020c(
    path: str | os.PathLike[str] | None = None,
    *,
    include_unlabelled: bool = False,
    n: int | None = None,
    seed: int = 0,
    dirty: bool = False,
) -> VerticalData:
    """Load the enterprises of CUMCM 2020 problem C with aggregates of their invoices.

    27 of the 123 enterprises with a record default. The bank's rating is left out: every
    enterprise rated D defaulted and hardly another, so it gives the label away.
    `aggregate_invoices` says how void, negative and duplicate invoices are counted.

    Parameters
    ----------
    path : path-like, optional
        Folder that holds the six CSV files, or the folder above; by default ``$FEDCREDIT_DATA``.
    include_unlabelled : bool
        Add the 302 enterprises without a record; the label then is NaN for them, and float.
    n : int, optional
        Take a random sample of so many enterprises.
    seed : int
        For the sample and for `dirty`.
    dirty : bool
        As in `load_default_credit`.

    Returns
    -------
    VerticalData
        Platform: ``sales_*`` and the label ``default``; tax: ``purchases_*``.

    Raises
    ------
    ConfigError
        If a file is not there.
    InputError
        If a file is not of that data set, or `n` or `seed` does not fit.
    """
    firms = _read_firms(path, "enterprises_with_record_123.csv", labelled=True)
    sales = [_read_invoices(path, "invoices_out_123.csv")]
    purchases = [_read_invoices(path, "invoices_in_123.csv")]
    if include_unlabelled:
        more = _read_firms(path, "enterprises_without_record_302.csv", labelled=False)
        firms = pd.concat([firms, more], ignore_index=True)
        sales.append(_read_invoices(path, "invoices_out_302.csv"))
        purchases.append(_read_invoices(path, "invoices_in_302.csv"))
    firms = _files.sample_rows(firms, n, seed, name=_NAME)

    platform = _features(sales, firms["firm"], prefix="sales")
    platform["default"] = firms["default"].to_numpy()
    if not include_unlabelled:
        platform["default"] = platform["default"].astype(np.int8)
    tax = _features(purchases, firms["firm"], prefix="purchases")
    tables = keyed_tables({"platform": platform, "tax": tax}, seed=seed, dirty=dirty)
    return VerticalData(
        name=_NAME,
        platform=tables["platform"],
        providers={"tax": tables["tax"]},
        key=KEY,
        label="default",
        target=_TARGET,
        categorical={"platform": [], "tax": []},
        dictionary=_dictionary(),
    )


def aggregate_invoices(invoices: pd.DataFrame) -> pd.DataFrame:
    """Reduce invoices to figures of each enterprise.

    - Rows alike in every column of the file are one invoice entered twice: one is kept.
    - Void invoices count in ``invoices`` and ``void_share`` and nowhere else.
    - Negative invoices (credit notes) are set off against the amounts and taxes and counted in
      ``negative_share`` and ``refund_share``.
    - Amount plus tax is not checked against the printed total, which differs by some cents.

    Parameters
    ----------
    invoices : pandas.DataFrame
        Columns ``firm``, ``number``, ``date`` (datetime), ``counterparty``, ``amount`` and
        ``tax`` (CNY), ``void`` (bool).

    Returns
    -------
    pandas.DataFrame
        One row per enterprise (the index), float64 columns as in the dictionary; NaN where a
        ratio has no denominator.
    """
    invoices = invoices.drop_duplicates()
    firm = invoices.groupby("firm")
    out = pd.DataFrame({"invoices": firm.size(), "void_share": firm["void"].mean()})

    valid = invoices[~invoices["void"]]
    valid = valid.assign(
        positive=valid["amount"].clip(lower=0),
        negative=-valid["amount"].clip(upper=0),
        is_negative=valid["amount"] < 0,
        is_positive=valid["amount"] > 0,
        month=valid["date"].dt.year * 12 + valid["date"].dt.month - 1,
    )
    sums = valid.groupby("firm").agg(
        amount=("amount", "sum"),
        tax=("tax", "sum"),
        positive=("positive", "sum"),
        negative=("negative", "sum"),
        negative_share=("is_negative", "mean"),
        n_positive=("is_positive", "sum"),
        counterparties=("counterparty", "nunique"),
        active_months=("month", "nunique"),
    )
    with_sales = sums["positive"] > 0
    out = out.join(sums[["negative_share", "amount", "tax", "counterparties", "active_months"]])
    out["refund_share"] = (sums["negative"] / sums["positive"]).where(with_sales)
    out["mean_invoice"] = (sums["positive"] / sums["n_positive"]).where(with_sales)
    return (
        out.join(_concentration(valid))
        .join(_monthly(valid))
        .reindex(columns=list(_MEASURES))
        .astype(np.float64)
    )


def _concentration(valid: pd.DataFrame) -> pd.DataFrame:
    """Shares by counterparty, of what remains positive after its credit notes."""
    by_party = valid.groupby(["firm", "counterparty"])["amount"].sum().clip(lower=0)
    total = by_party.groupby("firm").transform("sum")
    share = (by_party / total).where(total > 0)
    return pd.DataFrame(
        {
            "top_share": share.groupby("firm").max(),
            "concentration": (share**2).groupby("firm").sum(min_count=1),
        }
    )


def _monthly(valid: pd.DataFrame) -> pd.DataFrame:
    """Volatility and growth of the monthly sums."""
    sums = valid.groupby(["firm", "month"])["amount"].sum()
    month = sums.index.get_level_values("month")
    firm = sums.groupby("firm")
    last, first = (pd.Series(month, sums.index).groupby("firm").agg(f) for f in ("max", "min"))
    # Months without an invoice are zeros: they add to the length, not to the sums.
    length = (last - first + 1).astype(float)
    mean = firm.sum() / length
    variance = ((sums**2).groupby("firm").sum() / length - mean**2).clip(lower=0)
    volatility = (np.sqrt(variance) / mean).where((length >= 3) & (mean > 0))

    end = pd.Period(_YEAR_ENDS, freq="M")
    ends = end.year * 12 + end.month - 1
    years = [
        sums[(month > ends - 12 * (back + 1)) & (month <= ends - 12 * back)].groupby("firm").sum()
        for back in (0, 1)
    ]
    this, before = (year.reindex(mean.index, fill_value=0.0) for year in years)
    return pd.DataFrame({"volatility": volatility, "growth": (this / before - 1).where(before > 0)})


def _features(tables: list[pd.DataFrame], firms: pd.Series, *, prefix: str) -> pd.DataFrame:
    """Order the aggregates as `firms`; without invoices, sums and counts are zero."""
    figures = aggregate_invoices(pd.concat(tables, ignore_index=True)).reindex(firms)
    figures[_ADDITIVE] = figures[_ADDITIVE].fillna(0.0)
    return figures.add_prefix(f"{prefix}_").reset_index(drop=True)


def _read_firms(path: str | os.PathLike[str] | None, file: str, *, labelled: bool) -> pd.DataFrame:
    table = _files.read_csv(_files.locate(path, _NAME, file, name=_NAME), name=_NAME)
    label = "是否违约"
    _files.require_columns(table, [_FIRM, label] if labelled else [_FIRM], name=_NAME)
    default = (
        _files.binary_label(table[label], event="是", no_event="否", name=_NAME)
        if labelled
        else np.full(len(table), np.nan)
    )
    return pd.DataFrame({"firm": table[_FIRM], "default": default})


def _read_invoices(path: str | os.PathLike[str] | None, file: str) -> pd.DataFrame:
    table = _files.read_csv(_files.locate(path, _NAME, file, name=_NAME), name=_NAME)
    table = table.rename(columns={**_COLUMNS, "发票号码": "number", "价税合计": "total"})
    needed = ["number", "total", *dict.fromkeys(_COLUMNS.values())]
    _files.require_columns(table, needed, name=_NAME)
    if not bool(table["status"].isin([_VALID, _VOID]).all()):
        raise InputError(
            f"The file {file} has an unknown status of an invoice.",
            step=f"load {_NAME}",
            fix="use the original file",
        )
    table["void"] = table.pop("status") == _VOID
    table["date"] = pd.to_datetime(table["date"])
    return table


def _dictionary() -> dict[str, Field]:
    dictionary = {}
    for party, prefix, word in (
        ("platform", "sales", "outgoing"),
        ("tax", "purchases", "incoming"),
    ):
        dictionary[f"{party}.{KEY}"] = Field("code", "Made-up unified social credit code.")
        for name, (unit, text) in _MEASURES.items():
            said = text.format(word)
            dictionary[f"{party}.{prefix}_{name}"] = Field(unit, said[0].upper() + said[1:])
    dictionary["platform.default"] = Field("0/1", "Default; NaN without a record.")
    return dictionary
