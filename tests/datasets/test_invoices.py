"""Aggregates of invoices, against figures worked out by hand."""

import gzip

import numpy as np
import pandas as pd
import pytest

from fedcredit.datasets import load_cumcm2020c
from fedcredit.datasets._invoices import aggregate_invoices
from fedcredit.errors import InputError


def invoices(rows):
    table = pd.DataFrame(
        rows, columns=["firm", "number", "date", "counterparty", "amount", "tax", "void"]
    )
    return table.assign(date=pd.to_datetime(table["date"]), void=table["void"].astype(bool))


def test_void_negative_and_duplicate_invoices():
    figures = aggregate_invoices(
        invoices(
            [
                ("A", 1, "2019-03-01", "p", 100.0, 10.0, 0),
                ("A", 1, "2019-03-01", "p", 100.0, 10.0, 0),  # entered twice
                ("A", 2, "2019-03-05", "p", -40.0, -4.0, 0),
                ("A", 3, "2019-05-05", "q", 40.0, 4.0, 0),
                ("A", 4, "2019-06-05", "r", 900.0, 90.0, 1),  # void
                ("B", 5, "2019-06-05", "r", 900.0, 90.0, 1),
            ]
        )
    )
    a = figures.loc["A"]
    assert (a["invoices"], a["void_share"]) == (4, 0.25)
    assert (a["amount"], a["tax"]) == (100, 10)
    assert a["negative_share"] == pytest.approx(1 / 3)
    assert a["refund_share"] == pytest.approx(40 / 140)
    assert a["mean_invoice"] == 70
    assert (a["counterparties"], a["active_months"]) == (2, 2)
    assert a["top_share"] == pytest.approx(0.6)
    assert a["concentration"] == pytest.approx(0.36 + 0.16)
    # Monthly sums 60, 0, 40.
    assert a["volatility"] == pytest.approx(np.std([60, 0, 40]) / np.mean([60, 0, 40]))
    b = figures.loc["B"]
    assert (b["invoices"], b["void_share"]) == (1, 1.0)
    assert b.drop(["invoices", "void_share"]).isna().all()


def test_growth_compares_two_years():
    figures = aggregate_invoices(
        invoices(
            [
                ("A", 1, "2018-01-31", "p", 999.0, 0.0, 0),  # before both years
                ("A", 2, "2018-02-01", "p", 60.0, 0.0, 0),
                ("A", 3, "2019-01-31", "p", 40.0, 0.0, 0),
                ("A", 4, "2019-02-01", "p", 120.0, 0.0, 0),
                ("A", 5, "2020-01-31", "p", 30.0, 0.0, 0),
                ("A", 6, "2020-02-01", "p", 999.0, 0.0, 0),  # the month cut off
                ("B", 7, "2019-06-01", "p", 10.0, 0.0, 0),
                ("C", 8, "2018-06-01", "p", 10.0, 0.0, 0),
            ]
        )
    )
    growth = figures["growth"]
    assert growth["A"] == pytest.approx(0.5)
    assert np.isnan(growth["B"])
    assert growth["C"] == -1
    assert np.isnan(figures.loc["B", "volatility"])


def test_enterprises_without_invoices_and_unknown_status(tmp_path):
    def write(name, text):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))

    write(
        "enterprises_with_record_123", "企业代号,企业名称,信誉评级,是否违约\nE1,x,A,否\nE2,y,D,是\n"
    )
    rest = "金额,税额,价税合计,发票状态"
    row = "E1,1,2019-01-02,P,100.0,10.0,110.0,有效发票\n"
    write("invoices_out_123", f"企业代号,发票号码,开票日期,购方单位代号,{rest}\n{row}")
    write("invoices_in_123", f"企业代号,发票号码,开票日期,销方单位代号,{rest}\n{row}")
    loaded = load_cumcm2020c(tmp_path)
    assert loaded.platform["default"].tolist() == [0, 1]
    assert loaded.platform["sales_amount"].tolist() == [100, 0]
    assert loaded.platform["sales_void_share"].isna().tolist() == [False, True]
    assert loaded.providers["tax"]["purchases_invoices"].tolist() == [1, 0]
    columns = [f"{p}.{c}" for p, table in loaded.parties.items() for c in table]
    assert sorted(columns) == sorted(loaded.dictionary)

    write(
        "invoices_in_123",
        f"企业代号,发票号码,开票日期,销方单位代号,{rest}\n{row.replace('有效', '红字')}",
    )
    with pytest.raises(InputError, match="unknown status") as caught:
        load_cumcm2020c(tmp_path)
    assert "E1" not in str(caught.value)
