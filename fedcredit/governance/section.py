"""One table of a TOML file: typed values are taken out, what is left is refused."""

from __future__ import annotations

import datetime
import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from fedcredit.errors import ConfigError

__all__ = ["READ_STEP", "Section", "check_party_name", "read_toml"]

READ_STEP = "read the configuration"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")


def check_party_name(name: str) -> str:
    """Return ``name`` if it can name a party.

    Raises
    ------
    ConfigError
        It is not 1 to 63 lower-case letters, digits, ``-`` or ``_``.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{str(name)[:80]!r} cannot name a party.",
            fix="use 1 to 63 of a-z, 0-9, - and _, starting and ending with a letter or digit",
        )
    return name


def read_toml(path: str | Path, *, what: str, writer: str) -> tuple[Path, dict[str, Any]]:
    """Read a TOML file.

    Parameters
    ----------
    path : str or Path
    what, writer : str
        What the file should be, and the command that writes one, for errors.

    Returns
    -------
    file : Path
        The path, resolved.
    values : dict

    Raises
    ------
    ConfigError
        The file is missing or no TOML.
    """
    file = Path(path).expanduser().resolve()
    try:
        return file, tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}).",
            step=READ_STEP,
            fix=f"give the path of a {what}; `{writer}` writes one",
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file} is no TOML ({error}).", step=READ_STEP) from None


class Section:
    """Takes typed values out of a TOML table.

    Every method that takes a value raises ConfigError if it is missing or of another type.

    Parameters
    ----------
    file : Path
        Named in errors; paths in it are relative to its directory.
    name : str
        The table's name; empty for the top level.
    values : dict
        What tomllib made of it.
    """

    def __init__(self, file: Path, name: str, values: Any) -> None:
        self._file, self._name = file, name
        if not isinstance(values, Mapping):
            self.fail("must be a table", f"write it as [{name}]")
        self._values: dict[str, Any] = dict(values)
        self._known: set[str] = set()

    def fail(self, reason: str, fix: str | None = None) -> NoReturn:
        """Refuse the table, naming the file."""
        where = f"[{self._name}]" if self._name else "the top level"
        raise ConfigError(f"{self._file}: {where} {reason}.", step=READ_STEP, fix=fix)

    def known(self, key: str) -> None:
        """Note a key that may stand here, for the hint on a misspelt one."""
        self._known.add(key)

    def names(self) -> tuple[str, ...]:
        """Return the keys that have not been taken."""
        return tuple(self._values)

    def present(self, key: str) -> bool:
        """Whether a key is there."""
        self._known.add(key)
        return key in self._values

    def _take(self, key: str, kinds: tuple[type, ...], what: str) -> Any:
        if not self.present(key):
            self.fail(f"lacks {key!r}", f"add {key} = ... ({what})")
        value = self._values.pop(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.fail(f"{key!r} must be {what}")
        return value

    def text(self, key: str) -> str:
        """Take a text."""
        value: str = self._take(key, (str,), "a text")
        if not value.strip():
            self.fail(f"{key!r} is empty")
        return value

    def text_or_empty(self, key: str) -> str:
        """Take a text, which may be empty, if it is there."""
        value: str = self._take(key, (str,), "a text") if self.present(key) else ""
        return value

    def maybe_text(self, key: str) -> str | None:
        """Take a text if it is there."""
        return self.text(key) if self.present(key) else None

    def flag(self, key: str, *, default: bool) -> bool:
        """Take true or false."""
        return bool(self._take(key, (bool,), "true or false")) if self.present(key) else default

    def integer(self, key: str, *, minimum: int, maximum: int | None = None) -> int:
        """Take a whole number."""
        value: int = self._take(key, (int,), "a whole number")
        if value < minimum:
            self.fail(f"{key!r} must be at least {minimum}")
        if maximum is not None and value > maximum:
            self.fail(f"{key!r} must be at most {maximum}")
        return value

    def number(self, key: str, *, minimum: float) -> float:
        """Take a finite number."""
        value = float(self._take(key, (int, float), "a number"))
        if not minimum <= value < float("inf"):
            self.fail(f"{key!r} must be a number of at least {minimum:g}")
        return value

    def date(self, key: str) -> datetime.date:
        """Take a date (a TOML local date)."""
        value = self._take(key, (datetime.date,), "a date, as 2026-10-31")
        if isinstance(value, datetime.datetime):
            self.fail(f"{key!r} must be a date without a time")
        found: datetime.date = value
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of different texts; empty if it is not there."""
        if not self.present(key):
            return ()
        values = self._take(key, (list,), "a list of texts")
        if not all(isinstance(value, str) and value.strip() for value in values):
            self.fail(f"{key!r} must be a list of texts")
        if len(set(values)) != len(values):
            self.fail(f"{key!r} names an entry twice")
        return tuple(values)

    def items(self, key: str) -> list[Any]:
        """Take a list of whatever it holds; empty if it is not there."""
        return list(self._take(key, (list, tuple), "a list")) if self.present(key) else []

    def text_map(self, key: str) -> dict[str, str]:
        """Take a table of texts; empty if it is not there."""
        if not self.present(key):
            return {}
        values = self._take(key, (dict,), "a table of texts")
        if not all(isinstance(value, str) and value.strip() for value in values.values()):
            self.fail(f"{key!r} must be a table of texts")
        return dict(values)

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """Take one of ``options``."""
        if default is not None and not self.present(key):
            return default
        value = self.text(key)
        if value not in options:
            self.fail(f"{key!r} must be one of {', '.join(options)}")
        return value

    def path(self, key: str) -> Path:
        """Take a path, relative to the file."""
        return (self._file.parent / Path(self.text(key)).expanduser()).resolve()

    def party(self, key: str) -> str:
        """Take a party's name."""
        return check_party_name(self.text(key))

    def parties(self, key: str) -> tuple[str, ...]:
        """Take a list of party names."""
        return tuple(check_party_name(name) for name in self.texts(key))

    def table(self, key: str, *, required: bool = True) -> Section:
        """Take a table within this one."""
        name = f"{self._name}.{key}" if self._name else key
        if not self.present(key) and required:
            self.fail(f"lacks the table [{name}]", f"add [{name}]")
        return Section(self._file, name, self._values.pop(key, {}))

    def tables(self, key: str) -> list[Section]:
        """Take a list of tables within this one; empty if it is not there."""
        name = f"{self._name}.{key}" if self._name else key
        return [
            Section(self._file, f"{name} {number}", values)
            for number, values in enumerate(self.items(key), 1)
        ]

    def rest(self) -> dict[str, Any]:
        """Take all that is left."""
        values, self._values = self._values, {}
        return values

    def finish(self) -> None:
        """Refuse what has not been taken."""
        for key in self._values:
            near = difflib.get_close_matches(key, self._known, 1)
            self.fail(
                f"has an unknown key {key!r}", f"did you mean {near[0]!r}" if near else "remove it"
            )
