"""A party's data: three formats, and errors that name file and column but no value."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from fedcredit.errors import ConfigError, InputError
from fedcredit.node.config import DataConfig
from fedcredit.node.tables import read_data, read_table

TABLE = pa.table(
    {
        "uscc": ["0091", "0092", "0093"],
        "paid": [1.5, None, 3.0],
        "staff": [3, 4, 5],
        "industry": ["a", "b", "a"],
        "note": ["x", "y", "z"],
        "when": pa.array([1, 2, 3], pa.date32()),
        "default": [0, 1, 0],
    }
)


def config(path: Path, **changes) -> DataConfig:
    values = {
        "path": path,
        "id_column": "uscc",
        "id_kind": "text",
        "features": ("paid", "staff", "industry"),
        "categorical": ("industry",),
        "label": "default",
    }
    return DataConfig(**(values | changes))


@pytest.fixture(params=["parquet", "csv", "arrow", "stream.arrow", "feather"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    target = tmp_path / f"tax.{request.param}"
    if request.param == "parquet":
        pa.parquet.write_table(TABLE, target)
    elif request.param == "csv":
        pa.csv.write_csv(TABLE, target)
    elif request.param == "feather":
        pa.feather.write_feather(TABLE, target)
    else:
        new = pa.ipc.new_stream if "stream" in request.param else pa.ipc.new_file
        with pa.OSFile(str(target), "wb") as sink, new(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    return target


def test_every_format_gives_the_same_table(path: Path):
    frame = read_data(config(path), party="tax")
    assert list(frame.columns) == ["uscc", "paid", "staff", "industry", "default"]
    assert list(frame["uscc"]) == ["0091", "0092", "0093"]
    assert frame["paid"].isna().tolist() == [False, True, False]
    assert frame["staff"].tolist() == [3, 4, 5]
    assert frame["default"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"id_column": "id"}, "has no column 'id'"),
        ({"features": ("paid", "nothing")}, "has no column 'nothing'"),
        ({"label": "bad"}, "has no column 'bad'"),
        ({"features": ("note",), "categorical": ()}, "column 'note' .* is string"),
        ({"features": ("when",), "categorical": ()}, "column 'when' .* is date32"),
        ({"id_column": "paid", "features": ("staff",)}, "column 'paid' .* is double"),
        ({"label": "note"}, "column 'note' .* is string"),
        ({"features": None}, "column 'note' .* is string"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, changes, match):
    path = tmp_path / "tax.parquet"
    pa.parquet.write_table(TABLE, path)
    with pytest.raises(InputError, match=match) as caught:
        read_data(config(path, **changes), party="tax")
    assert caught.value.party == "tax"


def test_unreadable_files(tmp_path: Path):
    with pytest.raises(ConfigError, match="is missing"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="unknown type"):
        read_table(tmp_path / "none.xlsx")
    for name in ("bad.parquet", "bad.arrow", "bad.feather"):
        (tmp_path / name).write_bytes(b"secret-value-4711")
        with pytest.raises(ConfigError, match="cannot be read as") as caught:
            read_table(tmp_path / name)
        assert "4711" not in str(caught.value)
    (tmp_path / "bad.csv").write_text("a,b\n1,secret-4711,3\n")
    with pytest.raises(ConfigError) as caught:
        read_table(tmp_path / "bad.csv")
    assert "4711" not in str(caught.value)
    (tmp_path / "two.csv").write_text("a,a\n1,2\n")
    with pytest.raises(InputError, match="two columns named 'a'"):
        read_table(tmp_path / "two.csv")


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path):
    (tmp_path / "tax.csv").write_text("uscc,paid\n0091,1\n0092,2\n")
    frame = read_data(
        config(tmp_path / "tax.csv", features=None, categorical=(), label=None), party="tax"
    )
    assert list(frame["uscc"]) == ["0091", "0092"]
    pa.parquet.write_table(pa.table({"uscc": [91, 92], "paid": [1, 2]}), tmp_path / "n.parquet")
    frame = read_data(
        config(tmp_path / "n.parquet", features=None, categorical=(), label=None), party="tax"
    )
    assert list(frame["uscc"]) == ["91", "92"]
