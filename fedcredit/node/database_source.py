"""A party's table in PostgreSQL: where it is, and reading it as Arrow through ADBC.

::

    [data]
    url = "postgresql://reader@db.example/tax"
    table = "public.enterprises"           # or a query:
    # query = "SELECT uscc, annual_paid FROM enterprises WHERE year = 2025"
    # password_file = "db.password"        # holds nothing else; readable by this user alone
    id_column = "uscc"

A password stands best in ``~/.pgpass`` (or where ``PGPASSFILE`` says), which libpq reads by
itself, or in a ``password_file``; one in the URL works and is never shown. The connection is
read-only, whatever the query says. Columns of type ``numeric`` become float64; the padding of
``char(n)`` is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute

from fedcredit.errors import ConfigError, InputError
from fedcredit.governance.section import Section

__all__ = ["DatabaseSource", "read_database", "take_database"]

_STEP = "read data"
_CONNECT_SECONDS = 20
#: What an SQLSTATE says, by its beginning, and what to do.
_REASONS = {
    "28": ("the server refuses the user or password", "correct the user, or the password's file"),
    "3D000": ("there is no such database", "correct the name in [data] url"),
    "25006": ("the query writes, and reading is all that is allowed", "give a SELECT"),
    "42501": ("the user may not read it", "grant SELECT on the tables to the user"),
    "42601": ("the query is no valid SQL, or more than one statement", "try it in psql"),
    "42P01": ("there is no such table", "correct [data] table or query"),
    "42703": ("the query names a column that is not there", "correct [data] query"),
    "57": ("the server shut down or stopped the query", "start again when it runs"),
}


@dataclass(frozen=True)
class DatabaseSource:
    """A table or query in PostgreSQL.

    Attributes
    ----------
    url : str
        ``postgresql://user@host:port/database``; not shown, as it may hold a password.
    query, table : str or None
        One of them: an SQL query, or a table as ``name`` or ``schema.name``.
    password_file : Path or None
        A file that holds the password alone.
    """

    url: str = field(repr=False)
    query: str | None = None
    table: str | None = None
    password_file: Path | None = None

    def __str__(self) -> str:
        return "the query in [data]" if self.table is None else f"the table {self.table!r}"


def take_database(section: Section) -> DatabaseSource | None:
    """Take the keys of a database out of ``[data]``; None if it names a file (ConfigError)."""
    if not section.present("url"):
        for key in ("query", "table", "password_file"):
            if section.present(key):
                section.fail(f"{key!r} needs a 'url'", 'add url = "postgresql://..."')
        return None
    if section.present("path"):
        section.fail("has both 'path' and 'url'", "keep the one where the data are")
    url = section.text("url")
    if not url.startswith(("postgresql://", "postgres://")):
        section.fail("'url' must begin with postgresql://")
    if section.present("query") == section.present("table"):
        section.fail("needs either 'query' or 'table' with 'url'")
    return DatabaseSource(
        url,
        section.maybe_text("query"),
        section.maybe_text("table"),
        section.path("password_file") if section.present("password_file") else None,
    )


def read_database(
    source: DatabaseSource, *, columns: Sequence[str] | None = None, party: str | None = None
) -> pa.Table:
    """Read a table or the result of a query.

    Parameters
    ----------
    source : DatabaseSource
    columns : sequence of str, optional
        Of a table, read these only; a query gives what it gives.
    party : str, optional
        Named in errors.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ConfigError
        The database cannot be reached or refuses; the driver is missing; the password's file
        cannot be read or others may read it.
    InputError
        A column is missing, stands there twice, or is of type ``money``.
    """
    try:
        import adbc_driver_postgresql.dbapi as driver
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ModuleNotFoundError:
        _fail("the driver for PostgreSQL is not installed", "install fedcredit[postgres]", party)
    try:
        given = conninfo_to_dict(source.url)
    except ProgrammingError:
        # Its text quotes the URL.
        _fail("'url' in [data] is malformed", "write postgresql://user@host:port/database", party)
    changes: dict[str, Any] = {
        "options": f"{given.get('options') or ''} -c default_transaction_read_only=on".strip(),
        "application_name": "fedcredit",
        "connect_timeout": given.get("connect_timeout") or _CONNECT_SECONDS,
    }
    if source.password_file is not None:
        changes["password"] = _password(source.password_file, party)
    try:
        with (
            driver.connect(make_conninfo(source.url, **changes)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(_statement(cursor, source, columns, party))
            table = cursor.fetch_arrow_table()
    except driver.Error as error:
        # Its text may quote cells or the URL; the class and the code do not.
        code = getattr(error, "sqlstate", None) or ""
        why, fix = next(
            (found for key, found in _REASONS.items() if code.startswith(key)),
            ("", "check that the server runs and that [data] url names it"),
        )
        detail = ", ".join(filter(None, (why, type(error).__name__, code)))
        _fail(f"{source} cannot be read ({detail})", fix, party)
    return _plain(table, source, party)


def _statement(
    cursor: Any, source: DatabaseSource, columns: Sequence[str] | None, party: str | None
) -> str:
    if source.query is not None:
        return source.query
    name = ".".join(_quoted(part) for part in str(source.table).split("."))
    if columns is None:
        return f"SELECT * FROM {name}"
    cursor.execute(f"SELECT * FROM {name} LIMIT 0")
    there = cursor.fetch_arrow_table().column_names
    for column in columns:
        if column not in there:
            raise InputError(
                f"{source} has no column {column!r}.", party=party, step=_STEP, fix="correct [data]"
            )
    return f"SELECT {', '.join(_quoted(column) for column in columns)} FROM {name}"


def _quoted(identifier: str) -> str:
    doubled = identifier.replace('"', '""')
    return f'"{doubled}"'


def _plain(table: pa.Table, source: DatabaseSource, party: str | None) -> pa.Table:
    """Bring columns to types that files have as well."""
    names = table.column_names
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(
            f"{source} has two columns named {doubled[0]!r}.",
            party=party,
            step=_STEP,
            fix="name one differently (AS)",
        )
    for index, item in enumerate(table.schema):
        kind = (item.metadata or {}).get(b"POSTGRESQL:type", b"")
        column = table.column(index)
        if isinstance(item.type, pa.BaseExtensionType) and kind == b"numeric":
            storage = [chunk.storage for chunk in column.chunks]
            values = pa.chunked_array(storage, pa.string()).cast(pa.float64())
        elif kind == b"bpchar":
            values = pa.compute.utf8_rtrim(column, characters=" ")
        elif kind == b"money":
            raise InputError(
                f"column {item.name!r} of {source} is money, whose unit depends on the server.",
                party=party,
                step=_STEP,
                fix="cast it in the query: column::numeric",
            )
        else:
            continue
        table = table.set_column(index, item.name, values)
    return table


def _password(path: Path, party: str | None) -> str:
    try:
        if path.stat().st_mode & 0o077:
            _fail(f"{path} can be read by other users", f"chmod 600 {path}", party)
        password = path.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{path} cannot be read ({type(error).__name__})", "correct password_file", party)
    if not password or "\n" in password or "\0" in password:
        _fail(f"{path} does not hold one password", "write the password and nothing else", party)
    return password


def _fail(reason: str, fix: str, party: str | None) -> NoReturn:
    raise ConfigError(f"{reason}.", party=party, step=_STEP, fix=fix) from None
