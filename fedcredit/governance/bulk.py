"""Statements that are compiled once, and thousands of values in one of them.

SQLAlchemy finds out at every execution whether it has compiled a statement before, which takes
longer than a question's statements themselves; a :class:`Statement` keeps its text per kind of
database. Values travel as one JSON text and one blob (SQLite's ``json_each`` and ``substr``) or as
arrays (PostgreSQL's ``unnest``): the text is the same for every number of them, and no value costs
a round trip of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fedcredit.errors import ParameterError

__all__ = ["Builder", "Statement", "insertion"]

_STEP = "governance database"
#: All bytes in lists are SHA-256 digests.
_DIGEST_BYTES = 32
_TYPES: dict[type, type[sa.types.TypeEngine[Any]]] = {
    str: sa.Text,
    int: sa.BigInteger,
    float: sa.Double,
    bytes: sa.LargeBinary,
}


class Builder:
    """Makes the parts of a statement in which the databases differ.

    Attributes
    ----------
    kind : str
        ``"sqlite"`` or ``"postgresql"``.
    lists : dict
        The lists that the statement takes, with the types of their columns.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.lists: dict[str, dict[str, type]] = {}

    def listed(self, name: str, **columns: type) -> Any:
        """Return a list of the statement as a table that it can select from or join.

        Parameters
        ----------
        name : str
            How :meth:`Statement.__call__` gets the list: columns of one length, at least 1.
        **columns : type
            ``str``, ``int``, ``float``, or ``bytes`` for digests of 32 bytes.

        Returns
        -------
        sqlalchemy.Subquery
            One row per position.
        """
        self.lists[name] = columns
        if self.kind == "postgresql":
            arrays = [
                sa.cast(
                    sa.bindparam(_key(name, column), type_=postgresql.ARRAY(_TYPES[kind])),
                    postgresql.ARRAY(_TYPES[kind]),
                )
                for column, kind in columns.items()
            ]
            table = sa.func.unnest(*arrays).table_valued(*columns).render_derived()
            chosen = sa.select(*(table.c[column] for column in columns))
            return chosen.subquery(name)
        each = sa.func.json_each(sa.bindparam(name)).table_valued("key", "value").c
        texts = [column for column, kind in columns.items() if kind is not bytes]
        parts = []
        for column, kind in columns.items():
            if kind is bytes:
                blob = sa.bindparam(_key(name, column), type_=sa.LargeBinary)
                value: Any = sa.func.substr(blob, each.key * _DIGEST_BYTES + 1, _DIGEST_BYTES)
            elif len(texts) == 1:
                value = each.value
            else:
                value = sa.func.json_extract(each.value, f"$[{texts.index(column)}]")
            parts.append(sa.type_coerce(value, _TYPES[kind]).label(column))
        return sa.select(*parts).subquery(name)

    def among(self, column: sa.ColumnElement[Any], name: str, kind: type) -> Any:
        """Return the condition that a column holds a value of a list, found through its index."""
        if self.kind == "postgresql":
            # Of a subquery PostgreSQL would guess the number of rows, and may join by brute force.
            self.lists[name] = {"value": kind}
            array = postgresql.ARRAY(_TYPES[kind])
            parameter = sa.cast(sa.bindparam(_key(name, "value"), type_=array), array)
            return column == sa.any_(parameter)
        return column.in_(sa.select(self.listed(name, value=kind)))

    def insert(self, table: sa.Table, rows: Any) -> Any:
        """Return an insertion of the rows of a selection whose columns are named as the table's."""
        insert = postgresql.insert if self.kind == "postgresql" else sqlite.insert
        source = rows.subquery()
        # SQLite reads "SELECT ... ON CONFLICT" as a join unless there is a WHERE.
        chosen = sa.select(source).where(sa.true())
        return insert(table).from_select([column.name for column in source.c], chosen)

    def upsert(
        self,
        table: sa.Table,
        rows: Any,
        *,
        add: Sequence[str] = (),
        replace: Sequence[str] = (),
    ) -> Any:
        """Return an insertion that, where a key is there already, changes columns of the row.

        Parameters
        ----------
        table : sqlalchemy.Table
            With a primary key.
        rows : sqlalchemy.Select
            Columns named as the table's, no key twice.
        add, replace : sequence of str
            Columns to which the new row's value is added, and columns that take it.
        """
        statement = self.insert(table, rows)
        changes = {name: table.c[name] + statement.excluded[name] for name in add}
        changes |= {name: statement.excluded[name] for name in replace}
        keys = [column.name for column in table.primary_key]
        return statement.on_conflict_do_update(index_elements=keys, set_=changes)


class Statement:
    """A statement that is made once and run often.

    Parameters
    ----------
    make : callable
        Gets a :class:`Builder` and returns the statement. Parameters are ``sqlalchemy.bindparam``
        with names; an ``INSERT`` without values takes ``columns``.
    columns : sequence of str
        Of an ``INSERT``.

    Notes
    -----
    Values pass to the driver as they are, so that they must be plain: str, int, float, bytes, None.
    """

    def __init__(self, make: Callable[[Builder], Any], *, columns: Sequence[str] = ()) -> None:
        self._make, self._columns = make, tuple(columns)
        self._texts: dict[str, _Text] = {}

    def __call__(
        self, tx: sa.Connection, /, lists: Mapping[str, Any] | None = None, **values: Any
    ) -> sa.CursorResult[*tuple[Any, ...]]:
        """Run it.

        Parameters
        ----------
        tx : sqlalchemy.Connection
        lists : mapping of str to (mapping of str to sequence)
            Of every list its columns.
        **values
            The other parameters.

        Raises
        ------
        ParameterError
            The columns of a list differ in length.
        """
        text = self._text(tx)
        return tx.exec_driver_sql(text.sql, text.parameters(values, lists or {}))

    def many(self, tx: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for every row; nothing is returned."""
        text = self._text(tx)
        tx.exec_driver_sql(text.sql, [text.parameters(row, {}) for row in rows])

    def _text(self, tx: sa.Connection) -> _Text:
        kind = tx.dialect.name
        found = self._texts.get(kind)
        if found is None:
            builder = Builder(kind)
            found = _Text(self._make(builder), tx.dialect, builder.lists, self._columns)
            # Two threads may both come here; what they make is the same.
            self._texts[kind] = found
        return found


def insertion(table: sa.Table) -> Statement:
    """Return the insertion of one row that gives all columns but a key that counts by itself."""
    columns = [c.name for c in table.c if c is not table.autoincrement_column]
    return Statement(lambda _: sa.insert(table).inline(), columns=columns)


class _Text:
    """A compiled statement and how its parameters are put in order."""

    def __init__(
        self,
        statement: Any,
        dialect: sa.Dialect,
        lists: Mapping[str, Mapping[str, type]],
        columns: tuple[str, ...],
    ) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(columns) or None)
        self.sql = str(compiled)
        self._arrays = dialect.name == "postgresql"
        self._lists = lists
        self._order = tuple(compiled.positiontup if compiled.positional else compiled.params)
        open_ = {name for bind, name in compiled.bind_names.items() if bind.required}
        self._fixed = {name: value for name, value in compiled.params.items() if name not in open_}

    def parameters(self, values: Mapping[str, Any], lists: Mapping[str, Any]) -> Any:
        given = {**self._fixed, **values}
        for name, columns in self._lists.items():
            given.update(self._packed(name, columns, lists[name]))
        if self._arrays:
            return {name: given[name] for name in self._order}
        return tuple([given[name] for name in self._order])

    def _packed(
        self, name: str, columns: Mapping[str, type], values: Mapping[str, Sequence[Any]]
    ) -> dict[str, Any]:
        if len({len(values[column]) for column in columns}) != 1:
            raise ParameterError("the columns of a list differ in length.", step=_STEP)
        if self._arrays:
            return {_key(name, column): list(values[column]) for column in columns}
        packed: dict[str, Any] = {}
        plain: list[Sequence[Any]] = []
        for column, kind in columns.items():
            if kind is bytes:
                packed[_key(name, column)] = b"".join(values[column])
            else:
                plain.append(values[column])
        if not plain:
            # Only the places in the list count.
            plain.append(range(len(next(iter(values.values())))))
        rows = list(plain[0]) if len(plain) == 1 else list(zip(*plain, strict=True))
        packed[name] = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return packed


def _key(name: str, column: str) -> str:
    return f"{name}_{column}"
