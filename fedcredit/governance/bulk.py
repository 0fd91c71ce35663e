"""Thousands of values in one statement, on SQLite and on PostgreSQL.

One parameter per value would cost a statement of its own for every number of values, and a row at
a time costs a round trip each; here the values travel as one JSON text (SQLite's ``json_each``) or
as arrays (PostgreSQL's ``unnest``) and the statement stays the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["among", "listed", "upsert"]

_TYPES: dict[type, type[sa.types.TypeEngine[Any]]] = {
    str: sa.Text,
    int: sa.BigInteger,
    float: sa.Double,
}


def listed(tx: sa.Connection, **columns: Sequence[str] | Sequence[int] | Sequence[float]) -> Any:
    """Return values as a table that a statement can select from, join, or test with ``in_``.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        Tells which database it is.
    **columns : sequence of str, int or float
        Columns by name, all of one length, at least 1; every column of one type.

    Returns
    -------
    sqlalchemy.Select
        One row per position; ``.subquery()`` makes it a table with these columns.
    """
    kinds = [_TYPES[type(values[0])] for values in columns.values()]
    if tx.dialect.name == "postgresql":
        arrays = [
            sa.cast(sa.bindparam(None, list(values)), postgresql.ARRAY(kind))
            for values, kind in zip(columns.values(), kinds, strict=True)
        ]
        table = sa.func.unnest(*arrays).table_valued(*columns).render_derived()
        return sa.select(*(table.c[name] for name in columns))
    rows = (
        next(iter(columns.values())) if len(columns) == 1 else zip(*columns.values(), strict=True)
    )
    document = json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"))
    value = sa.func.json_each(document).table_valued("value").c.value
    if len(columns) == 1:
        return sa.select(sa.type_coerce(value, kinds[0]).label(next(iter(columns))))
    return sa.select(
        *(
            sa.type_coerce(sa.func.json_extract(value, f"$[{i}]"), kind).label(name)
            for i, (name, kind) in enumerate(zip(columns, kinds, strict=True))
        )
    )


def among(
    tx: sa.Connection, column: sa.ColumnElement[Any], values: Sequence[str] | Sequence[int]
) -> sa.ColumnElement[bool]:
    """Return the condition that a column holds one of many values, found through its index.

    Parameters
    ----------
    tx : sqlalchemy.Connection
        Tells which database it is.
    column : sqlalchemy.ColumnElement
    values : sequence of str or int
        At least one.
    """
    if tx.dialect.name == "postgresql":
        # Of a subquery PostgreSQL would guess the number of rows and may join by brute force.
        array = sa.cast(sa.bindparam(None, list(values)), postgresql.ARRAY(_TYPES[type(values[0])]))
        return column == sa.any_(array)
    return column.in_(listed(tx, value=values))


def upsert(
    tx: sa.Connection,
    table: sa.Table,
    rows: Any,
    *,
    add: Sequence[str] = (),
    replace: Sequence[str] = (),
) -> None:
    """Insert rows; where a key is there already, add to or replace columns of the row.

    Parameters
    ----------
    tx : sqlalchemy.Connection
    table : sqlalchemy.Table
        With a primary key.
    rows : sqlalchemy.Select
        Columns named as the table's.
    add, replace : sequence of str
        Columns to which the new row's value is added, and columns that take it.
    """
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    source = rows.subquery()
    # SQLite reads "SELECT ... ON CONFLICT" as a join unless there is a WHERE.
    chosen = sa.select(source).where(sa.true())
    statement = insert(table).from_select([c.name for c in source.c], chosen)
    keys = [column.name for column in table.primary_key]
    changes = {name: table.c[name] + statement.excluded[name] for name in add}
    changes |= {name: statement.excluded[name] for name in replace}
    tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))
