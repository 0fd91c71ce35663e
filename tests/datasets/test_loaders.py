"""Loaders on small files of the real sets' shape, and on the real sets where they are present."""

import gzip
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from fedcredit.datasets import (
    DATASETS,
    load,
    load_cumcm2020c,
    load_default_credit,
    load_give_me_some_credit,
)
from fedcredit.datasets._credit import _DEFAULT_CREDIT, _GIVE_ME_SOME_CREDIT
from fedcredit.errors import ConfigError, InputError
from fedcredit.uscc import is_valid, normalise

LABEL = "default.payment.next.month"


@pytest.fixture
def clients():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 1000, (400, 23)), columns=list(_DEFAULT_CREDIT))
    table.insert(0, "ID", np.arange(400))
    table[LABEL] = rng.integers(0, 2, 400)
    return table


@pytest.fixture
def data(tmp_path, clients):
    (tmp_path / "default_credit").mkdir()
    clients.to_csv(tmp_path / "default_credit" / "UCI_Credit_Card.csv.gz", index=False)
    return tmp_path


def test_parties_hold_their_columns(data, clients):
    loaded = load_default_credit(data)
    assert list(loaded.parties) == ["platform", "tax", "social_security"]
    assert loaded.label == "default"
    assert loaded.key == "uscc"
    np.testing.assert_array_equal(loaded.platform["default"], clients[LABEL])
    seen = {"ID", LABEL}
    for party, table in loaded.parties.items():
        assert is_valid(table["uscc"]).all()
        assert table["uscc"].is_unique
        assert table["uscc"].equals(loaded.platform["uscc"])
        for column in table.columns.drop(["uscc", "default"], errors="ignore"):
            np.testing.assert_array_equal(table[column], clients[column])
            assert column not in seen
            seen.add(column)
            assert f"{party}.{column}" in loaded.dictionary
    assert seen == set(clients)
    assert loaded.categorical["social_security"] == ["SEX", "EDUCATION", "MARRIAGE"]


def test_dirty_parties_differ_and_align(data, clients):
    loaded = load_default_credit(data, dirty=True, seed=4)
    again = load_default_credit(data, dirty=True, seed=4)
    pd.testing.assert_frame_equal(loaded.platform, again.platform)
    other = load_default_credit(data, dirty=True, seed=5)
    assert not loaded.platform["uscc"].head(50).equals(other.platform["uscc"].head(50))
    clean = load_default_credit(data)
    row_of = {code.encode(): row for row, code in enumerate(clean.platform["uscc"])}
    reports = {party: normalise(table["uscc"]) for party, table in loaded.parties.items()}
    common = set.intersection(*(set(report.ids.tolist()) for report in reports.values()))
    assert 0.6 * 400 < len(common) < 0.85 * 400
    for party, column in (
        ("platform", "BILL_AMT1"),
        ("tax", "LIMIT_BAL"),
        ("social_security", "AGE"),
    ):
        report = reports[party]
        held = loaded.parties[party][column].to_numpy()[report.rows]
        for code, value in zip(report.ids.tolist(), held, strict=True):
            if code in common:
                assert value == clients[column][row_of[code]]
    in_file = [row_of[code] for code in reports["tax"].ids.tolist() if code in row_of]
    assert in_file != sorted(in_file)


def test_sample(data, clients):
    loaded = load("default-credit", data, n=50, seed=7)
    other = load("default-credit", data, n=50, seed=8)
    assert len(loaded.platform) == len(loaded.providers["tax"]) == 50
    assert not loaded.platform["BILL_AMT1"].equals(other.platform["BILL_AMT1"])
    rows = loaded.platform.merge(clients, on=["BILL_AMT1", "BILL_AMT2", "PAY_0"])
    assert len(rows) == 50
    assert rows["ID"].is_monotonic_increasing
    with pytest.raises(InputError, match="401 rows were asked for"):
        load("default-credit", data, n=401)
    with pytest.raises(InputError, match="seed"):
        load("default-credit", data, seed=-1)


def test_file_folder_and_variable(data, monkeypatch):
    folder = data / "default_credit"
    plain = folder / "UCI_Credit_Card.csv"
    plain.write_bytes(gzip.decompress((folder / "UCI_Credit_Card.csv.gz").read_bytes()))
    (folder / "UCI_Credit_Card.csv.gz").unlink()
    monkeypatch.setenv("FEDCREDIT_DATA", str(data))
    tables = [load_default_credit(path).platform for path in (None, data, folder, plain)]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


@pytest.mark.parametrize("name", ["default-credit", "give-me-some-credit", "cumcm2020c"])
def test_absent_data(name, tmp_path, monkeypatch):
    monkeypatch.delenv("FEDCREDIT_DATA", raising=False)
    with pytest.raises(ConfigError, match="FEDCREDIT_DATA"):
        load(name)
    with pytest.raises(ConfigError, match="is not there"):
        load(name, tmp_path)


def test_the_header_of_the_uci_spreadsheet(data, clients):
    expected = load_default_credit(data).platform
    file = data / "default_credit" / "UCI_Credit_Card.csv.gz"
    clients.rename(columns={LABEL: "default payment next month"}).to_csv(file, index=False)
    pd.testing.assert_frame_equal(load_default_credit(data).platform, expected)


def test_wrong_files(data, clients):
    file = data / "default_credit" / "UCI_Credit_Card.csv.gz"
    clients.drop(columns=["AGE", LABEL]).to_csv(file, index=False)
    with pytest.raises(InputError, match="lacks the columns AGE, default"):
        load_default_credit(data)
    clients.assign(**{LABEL: 7654}).to_csv(file, index=False)
    with pytest.raises(InputError, match="not binary") as caught:
        load_default_credit(data)
    assert "7654" not in str(caught.value)
    file.write_bytes(gzip.compress(b"a,b\n1,2\n8765,4,5\n"))
    with pytest.raises(InputError, match="no readable CSV") as caught:
        load_default_credit(data)
    assert "8765" not in str(caught.value)
    file.write_bytes(b"not gzip")
    with pytest.raises(InputError, match="no readable CSV"):
        load_default_credit(data)


def test_unknown_name():
    with pytest.raises(InputError, match="sme, default-credit"):
        load("titanic")
    with pytest.raises(InputError, match="reads no file"):
        load("sme", "somewhere")


def test_synthetic_by_name():
    loaded = load("sme", n=300, seed=5)
    assert loaded.name == "sme"
    assert 200 < len(loaded.platform) < 300
    assert normalise(load("sme", n=3000).platform["uscc"]).duplicate > 0
    assert normalise(load("sme", n=3000, dirty=False).platform["uscc"]).duplicate == 0
    assert set(DATASETS) == {"sme", "default-credit", "give-me-some-credit", "cumcm2020c"}


class Answer:
    def __init__(self, frame):
        self.frame = frame


def test_fetch_renames_the_openml_columns(monkeypatch, clients, data):
    big = pd.concat([clients] * 75, ignore_index=True)
    short = big.drop(columns="ID").set_axis([*(f"x{i}" for i in range(1, 24)), "y"], axis=1)
    short["y"] = short["y"].astype(str).astype("category")
    asked = {}

    def answer(**options):
        asked.update(options)
        return Answer(short)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", answer)
    fetched = load_default_credit(fetch=True)
    assert asked["data_id"] == 42477
    read = load_default_credit(data)
    for party, table in read.parties.items():
        pd.testing.assert_frame_equal(
            fetched.parties[party].head(400).drop(columns="uscc"), table.drop(columns="uscc")
        )


def test_fetch_give_me_some_credit(monkeypatch):
    frame = pd.DataFrame(1.0, index=range(150_000), columns=list(_GIVE_ME_SOME_CREDIT))
    frame["FinancialDistressNextTwoYears"] = ["Yes", "No", "No"] * 50_000
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: Answer(frame))
    loaded = load_give_me_some_credit(fetch=True)
    assert loaded.platform["SeriousDlqin2yrs"].sum() == 50_000
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: Answer(frame.head(9)))
    with pytest.raises(InputError, match="9 rows"):
        load_give_me_some_credit(fetch=True)


def test_fetch_without_a_network(monkeypatch):
    def fail(**_):
        raise URLError("no route")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fail)
    with pytest.raises(ConfigError, match="could not be fetched"):
        load_default_credit(fetch=True)


@pytest.mark.realdata
def test_default_credit(real_data):
    loaded = load("default-credit", real_data)
    assert {p: t.shape for p, t in loaded.parties.items()} == {
        "platform": (30_000, 14),
        "tax": (30_000, 8),
        "social_security": (30_000, 5),
    }
    assert loaded.platform["default"].mean() == pytest.approx(0.2212)


@pytest.mark.realdata
def test_give_me_some_credit(real_data):
    loaded = load("give-me-some-credit", real_data)
    assert {p: t.shape for p, t in loaded.parties.items()} == {
        "platform": (150_000, 7),
        "tax": (150_000, 4),
        "social_security": (150_000, 3),
    }
    assert loaded.platform["SeriousDlqin2yrs"].mean() == pytest.approx(0.06684)
    assert loaded.providers["tax"]["MonthlyIncome"].isna().sum() == 29_731
    assert loaded.providers["social_security"]["NumberOfDependents"].isna().sum() == 3_924


@pytest.mark.realdata
def test_cumcm2020c(real_data):
    loaded = load_cumcm2020c(real_data)
    assert (len(loaded.platform), loaded.platform["default"].sum()) == (123, 27)
    # 162,484 and 210,947 invoices, less 4,436 and 803 exact duplicates.
    assert loaded.platform["sales_invoices"].sum() == 162_484 - 4_436
    assert loaded.providers["tax"]["purchases_invoices"].sum() == 210_947 - 803
    both = load_cumcm2020c(real_data, include_unlabelled=True)
    assert both.platform["default"].isna().sum() == 302
    np.testing.assert_allclose(
        both.platform["sales_amount"].head(123), loaded.platform["sales_amount"]
    )
    assert (
        not both.platform.drop(columns=["default", "sales_growth", "sales_volatility"])
        .isna()
        .any(axis=None)
    )
