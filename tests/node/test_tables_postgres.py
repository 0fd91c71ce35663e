"""A party's data in PostgreSQL: types, columns, errors without data, and silent passwords."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fedcredit.errors import ConfigError, InputError
from fedcredit.governance.section import Section
from fedcredit.node.config import DataConfig
from fedcredit.node.database_source import DatabaseSource, read_database, take_database
from fedcredit.node.tables import read_data
from tests.support.databases import new_postgres

SECRET = "hunter2-and-more"
TABLE = """
CREATE TYPE scale AS ENUM ('small', 'large');
CREATE SCHEMA "tax office";
CREATE TABLE enterprises (
    uscc char(18), paid numeric(14, 2), staff integer, share real, turnover double precision,
    audited boolean, size scale, industry varchar(9), founded date, fee money, "Odd ""name" bigint
);
INSERT INTO enterprises VALUES
    ('0091', 1234567.25, 3, 0.5, 1e12, true, 'small', 'a', '2001-02-03', 12.5, 1),
    ('0092', NULL, 4, NULL, NULL, NULL, 'large', 'b', NULL, NULL, 2),
    ('0093', 'NaN', 5, 1.5, -1, false, 'small', 'c', '1999-12-31', 1, 3);
CREATE TABLE "tax office"."filings" (id bigint, late integer);
INSERT INTO "tax office"."filings" VALUES (91, 1), (92, 0);
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with new_postgres() as made:
        with psycopg.connect(made, autocommit=True) as connection:
            connection.execute(TABLE)
        yield made


def config(url: str, **changes) -> DataConfig:
    source = {"query": None, "table": "enterprises", "password_file": None} | {
        key: changes.pop(key) for key in ("query", "table", "password_file") if key in changes
    }
    values = {
        "path": None,
        "id_column": "uscc",
        "id_kind": "text",
        "features": ("paid", "staff", "share", "turnover", "audited", "size", "industry"),
        "categorical": ("size", "industry"),
        "label": None,
        "database": DatabaseSource(url, **source),
    }
    return DataConfig(**(values | changes))


def test_a_table_is_read_as_a_file_would_be(url: str):
    frame = read_data(config(url), party="tax")
    assert list(frame.columns) == [
        "uscc", "paid", "staff", "share", "turnover", "audited", "size", "industry",
    ]  # fmt: skip
    assert frame["uscc"].tolist() == ["0091", "0092", "0093"]
    assert frame["paid"].dtype == "float64"
    assert frame["paid"].tolist()[0] == 1234567.25
    assert math.isnan(frame["paid"].tolist()[1])
    assert frame["staff"].tolist() == [3, 4, 5]
    assert frame["turnover"].tolist()[0] == 1e12
    assert frame["size"].tolist() == ["small", "large", "small"]


def test_a_query_is_read(url: str):
    query = 'SELECT uscc, sum("Odd ""name") AS odd FROM enterprises GROUP BY uscc ORDER BY uscc'
    frame = read_data(
        config(url, query=query, table=None, features=None, categorical=()), party="tax"
    )
    assert frame.to_dict("list") == {"uscc": ["0091", "0092", "0093"], "odd": [1.0, 2.0, 3.0]}


def test_names_are_quoted(url: str):
    source = DatabaseSource(url, table="tax office.filings")
    assert read_database(source).column_names == ["id", "late"]
    odd = DatabaseSource(url, table="enterprises")
    assert read_database(odd, columns=['Odd "name']).to_pydict() == {'Odd "name': [1, 2, 3]}
    frame = read_data(
        config(url, table="tax office.filings", id_column="id", features=None, categorical=()),
        party="tax",
    )
    assert frame["id"].tolist() == ["91", "92"]
    with pytest.raises(ConfigError, match="no such table"):
        read_database(DatabaseSource(url, table='x"; DROP TABLE enterprises; --'))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"id_column": "id"}, "the table 'enterprises' has no column 'id'"),
        ({"features": ("paid", "nothing"), "categorical": ()}, "has no column 'nothing'"),
        ({"features": ("founded",), "categorical": ()}, "column 'founded' of the table .* is date"),
        ({"features": ("industry",), "categorical": ()}, "column 'industry' .* is string"),
        ({"features": ("fee",), "categorical": ()}, "column 'fee' .* is money"),
        ({"id_column": "paid", "features": ("staff",), "categorical": ()}, "'paid' .* is double"),
    ],
)
def test_wrong_columns_are_named(url: str, changes, match: str):
    with pytest.raises(InputError, match=match) as caught:
        read_data(config(url, **changes), party="tax")
    assert caught.value.party == "tax"


@pytest.mark.parametrize(
    ("query", "match"),
    [
        ("SELEC 1", "no valid SQL"),
        ("SELECT 1; SELECT 2", "no valid SQL"),
        ("SELECT uscc FROM nowhere", "no such table"),
        ("SELECT nothing FROM enterprises", "names a column that is not there"),
        ("DELETE FROM enterprises RETURNING uscc", "the query writes"),
        ("SELECT cast(industry AS integer) AS uscc FROM enterprises", "cannot be read"),
        ("SELECT uscc, uscc FROM enterprises", "two columns named 'uscc'"),
    ],
)
def test_a_bad_query_is_said_without_its_data(url: str, query: str, match: str):
    with pytest.raises((ConfigError, InputError), match=match) as caught:
        read_database(DatabaseSource(url, query=query), party="tax")
    assert '"a"' not in str(caught.value)
    assert "LINE" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(read_database(DatabaseSource(url, table="enterprises"), columns=["uscc"])) == 3


def test_a_query_that_writes_from_within_is_refused(url: str):
    """Read-only holds for the whole connection, also if the URL asks for the opposite."""
    writing = url + "&options=-c%20default_transaction_read_only%3Doff"
    query = "WITH gone AS (DELETE FROM enterprises RETURNING uscc) SELECT uscc FROM gone"
    with pytest.raises(ConfigError, match="the query writes"):
        read_database(DatabaseSource(writing, query=query))


def test_a_server_that_is_away_or_a_bad_url_shows_no_password(tmp_path: Path):
    for url in (
        f"postgresql://joe:{SECRET}@/x?host={tmp_path}",
        f"postgresql://joe:{SECRET}@[half/x",
        f"postgresql://joe:{SECRET} x@h/x",
    ):
        source = DatabaseSource(url, table="t")
        with pytest.raises(ConfigError) as caught:
            read_database(source, party="tax")
        shown = f"{caught.value} {source!r} {source} {config(url)!r} {caught.value.__cause__}"
        assert SECRET not in shown


@pytest.fixture
def guarded(url: str) -> Iterator[str]:
    """URL of a role that needs a password, without it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
        connection.execute("GRANT SELECT (uscc, staff) ON enterprises TO guarded")
        yield url.replace("tester@", "guarded@")
        connection.execute("DROP OWNED BY guarded; DROP ROLE guarded")


def test_a_password_comes_from_a_file_of_its_own(guarded: str, tmp_path: Path):
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    source = DatabaseSource(guarded, query="SELECT uscc FROM enterprises", password_file=file)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by other users"):
        read_database(source)
    file.chmod(0o600)
    assert len(read_database(source)) == 3
    file.write_text("wrong\n")
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        read_database(source)
    assert "wrong" not in str(caught.value)
    file.write_text("two\nlines\n")
    with pytest.raises(ConfigError, match="does not hold one password"):
        read_database(source)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_database(dataclasses.replace(source, password_file=tmp_path / "none"))


def test_a_password_comes_from_the_file_that_libpq_reads(guarded: str, tmp_path: Path, monkeypatch):
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:guarded:{SECRET}\n")
    file.chmod(0o600)
    source = DatabaseSource(guarded, query="SELECT uscc FROM enterprises")
    with pytest.raises(ConfigError):
        read_database(source)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert len(read_database(source)) == 3


def test_what_the_role_may_not_read_is_said(guarded: str):
    url = guarded.replace("guarded@", f"guarded:{SECRET}@")
    assert len(read_database(DatabaseSource(url, query="SELECT staff FROM enterprises"))) == 3
    with pytest.raises(ConfigError, match="the user may not read it"):
        read_database(DatabaseSource(url, query="SELECT paid FROM enterprises"))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"url": "postgresql://h/x"}, "needs either 'query' or 'table'"),
        ({"url": "postgresql://h/x", "table": "t", "query": "q"}, "needs either"),
        ({"url": "postgresql://h/x", "table": "t", "path": "p"}, "both 'path' and 'url'"),
        ({"url": "mysql://h/x", "table": "t"}, "must begin with postgresql"),
        ({"path": "p", "query": "q"}, "'query' needs a 'url'"),
        ({"password_file": "p"}, "'password_file' needs a 'url'"),
    ],
)
def test_the_configuration_says_what_is_missing(tmp_path: Path, values, match: str):
    with pytest.raises(ConfigError, match=match):
        take_database(Section(tmp_path / "tax.toml", "data", values))


def test_the_configuration_is_read(tmp_path: Path):
    section = Section(
        tmp_path / "tax.toml",
        "data",
        {"url": f"postgresql://joe:{SECRET}@h/x", "table": "t", "password_file": "db.password"},
    )
    source = take_database(section)
    section.finish()
    assert source == DatabaseSource(
        f"postgresql://joe:{SECRET}@h/x", table="t", password_file=tmp_path / "db.password"
    )
    assert take_database(Section(tmp_path / "tax.toml", "data", {"path": "x.csv"})) is None


def test_a_file_is_read_without_loading_the_driver():
    code = (
        "import sys\n"
        "import fedcredit.node.tables\n"
        "loaded = [m for m in ('adbc_driver_postgresql', 'psycopg') if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)
