"""A party's data, read through Arrow with errors that name the file and the column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from fedcredit.errors import ConfigError, InputError
from fedcredit.node.config import DataConfig
from fedcredit.node.database_source import DatabaseSource, read_database

__all__ = ["read_data", "read_table"]

_STEP = "read data"


def read_table(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    text_columns: Sequence[str] = (),
    party: str | None = None,
) -> pa.Table:
    """Read a Parquet, CSV or Arrow IPC file.

    Parameters
    ----------
    path : Path
        ``.parquet``/``.pq``, ``.csv``/``.csv.gz``, or ``.arrow``/``.feather``/``.ipc``.
    columns : sequence of str, optional
        Only these, in this order; all by default.
    text_columns : sequence of str
        Read as text whatever they look like (CSV: an id's leading zeros survive).
    party : str, optional
        Named in errors.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ConfigError
        The file is missing, of another type, or unreadable.
    InputError
        A column is missing or stands there twice.
    """
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    reader = {
        "parquet": pa.parquet.read_table,
        "pq": pa.parquet.read_table,
        "csv": lambda source: _read_csv(source, text_columns),
        "arrow": _read_ipc,
        "ipc": _read_ipc,
        "feather": pa.feather.read_table,
    }.get(suffix)
    if reader is None:
        raise ConfigError(
            f"{path} is of an unknown type.",
            party=party,
            step=_STEP,
            fix="give a .parquet, .csv or .arrow file",
        )
    if not path.is_file():
        raise ConfigError(
            f"the data file {path} is missing.", party=party, step=_STEP, fix="correct [data] path"
        )
    try:
        table = reader(path)
    except (pa.ArrowException, OSError) as error:
        # Arrow quotes cells in its messages: the cause is dropped.
        raise ConfigError(
            f"{path} cannot be read as {suffix} ({type(error).__name__}).", party=party, step=_STEP
        ) from None
    doubled = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if doubled:
        raise InputError(
            f"{path} has two columns named {doubled[0]!r}.",
            party=party,
            step=_STEP,
            fix="rename one",
        )
    return table if columns is None else _select(table, path, columns, party)


def _read_csv(path: Path, text_columns: Sequence[str]) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in text_columns}, strings_can_be_null=True
    )
    return pa.csv.read_csv(path, convert_options=convert)


def _read_ipc(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()


def read_data(data: DataConfig, *, party: str) -> Any:
    """Read a party's table as configured.

    Parameters
    ----------
    data : DataConfig
    party : str

    Returns
    -------
    pandas.DataFrame
        The id column as text first, then the features in order, then the label if there is one.
        Numeric columns keep their dtype; columns named as categorical may be text.

    Raises
    ------
    ConfigError
        The file or the database cannot be read.
    InputError
        A column is missing, or has a type that cannot be used; the column is named.
    """
    tail = [data.label] if data.label is not None else []
    features = data.features
    source: Path | DatabaseSource
    if data.database is not None:
        source = data.database
        wanted = None if features is None else [data.id_column, *features, *tail]
        table = read_database(source, columns=wanted, party=party)
    else:
        assert data.path is not None
        source = data.path
        text_columns = [data.id_column, *data.categorical]
        table = read_table(source, text_columns=text_columns, party=party)
    if features is None:
        special = {data.id_column, *tail}
        features = tuple(name for name in table.column_names if name not in special)
    table = _select(table, source, [data.id_column, *features, *tail], party)
    for name in table.column_names:
        kind = table.schema.field(name).type
        index = table.column_names.index(name)
        if name == data.id_column:
            if not _is_text(kind):
                if not pa.types.is_integer(kind):
                    raise _wrong_type(source, name, kind, "text", party)
                table = table.set_column(index, name, table[name].cast(pa.string()))
        elif name == data.label:
            if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)) and not _is_float(kind):
                raise _wrong_type(source, name, kind, "a number (0 or 1)", party)
        elif name in data.categorical or _is_text(kind):
            if name not in data.categorical:
                raise _wrong_type(
                    source, name, kind, "a number, or be named in [data] categorical", party
                )
        elif pa.types.is_decimal(kind):
            table = table.set_column(index, name, table[name].cast(pa.float64()))
        elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_float(kind)):
            raise _wrong_type(source, name, kind, "a number", party)
    return table.to_pandas()


def _select(table: pa.Table, source: object, columns: Sequence[str], party: str | None) -> pa.Table:
    for name in columns:
        if name not in table.column_names:
            raise InputError(
                f"{source} has no column {name!r}.",
                party=party,
                step=_STEP,
                fix="correct [data] or the header of the data",
            )
    return table.select(list(columns))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind)


def _wrong_type(
    source: object, name: str, kind: pa.DataType, wanted: str, party: str
) -> InputError:
    return InputError(
        f"column {name!r} of {source} is {kind}; it must be {wanted}.",
        party=party,
        step=_STEP,
        fix="convert the column or leave it out of [data] features",
    )
