"""Enterprise identifiers, brought to the one spelling that every party matches on.

The unified social credit code (USCC, GB 32100-2015) has 18 characters: the registering authority,
the kind of entity, six digits of the region (GB/T 2260), the nine characters of the organisation
code (GB 11714), and a check character (modulo 31). Two parties find their common enterprises only
if both spell the code alike, and real columns do not: they hold full-width and lower-case letters,
blanks, hyphens and zero-width characters, the apostrophe that a spreadsheet puts before a number,
duplicates, and codes from before the standard.

`normalise` undoes the spelling and never guesses: a character that was mistyped stays mistyped.
A wrong check character is counted, not refused, because genuine codes issued before the standard
came into force carry one and match all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedcredit.errors import InputError

__all__ = ["ALPHABET", "IdReport", "check_characters", "is_valid", "normalise"]

IdKind = Literal["uscc", "text"]
DuplicateRule = Literal["first", "last", "error"]

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""The 31 characters of a USCC, in the order of their values (GB 32100-2015, table 4)."""

LENGTH: Final = 18
MAX_TEXT_BYTES: Final = 256
"""A ``kind="text"`` id longer than this, in UTF-8, is unusable."""

_STEP: Final = "normalise ids"
# GB 32100-2015, 4.5: the weight of place i is 3**(i - 1) modulo 31.
_WEIGHTS: Final = np.array([pow(3, i, 31) for i in range(LENGTH - 1)], dtype=np.int64)
_OUTSIDE: Final = 255
_VALUES: Final = np.full(256, _OUTSIDE, dtype=np.uint8)
_VALUES[np.frombuffer(ALPHABET.encode(), dtype=np.uint8)] = np.arange(31, dtype=np.uint8)
_CHARACTERS: Final = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)

# Separators, controls, formats (zero-width, byte-order mark) and dashes, wherever they stand, and
# what spreadsheets wrap around a number to keep it text. A point or a plus sign is left in place:
# "9.11522E+17" has lost its digits and must not shrink to something that looks like a code.
_NOISE: Final = r"[\s\p{Z}\p{C}\p{Pd}−'\"`‘’“”=]+"
_OUTER_BLANKS: Final = r"^[\s\p{Z}\p{C}]+|[\s\p{Z}\p{C}]+$"
# Registration numbers (15 digits, 13 before 2007), tax registration numbers (region and
# organisation code), and organisation codes (GB 11714).
_PRE_STANDARD: Final = r"^(?:[0-9]{13}|[0-9]{15}|[0-9]{6}[0-9A-Z]{8}[0-9X]|[0-9A-Z]{8}[0-9X])$"


@dataclass(frozen=True, repr=False, eq=False)
class IdReport:
    """The usable ids of a column, and what became of the rest.

    ``n_rows == len(ids) + blank + duplicate + unusable`` always holds.

    Attributes
    ----------
    ids : ndarray of bytes, shape (m,), dtype ``S18`` for ``kind="uscc"``
        Unique normalised ids in UTF-8, in the order of their first appearance. For
        ``kind="text"`` the item size is the longest id's, so hash the items, not the buffer.
    rows : ndarray of int64, shape (m,)
        The row that each id stands for; with ``duplicates="last"`` its last row.
    n_rows : int
        Rows looked at.
    blank : int
        Rows with no id, or with nothing but blanks.
    duplicate : int
        Rows left out because another row has the same id.
    invalid_check_digit : int
        Kept ids of 18 characters whose check character does not hold, or that use a character
        outside the standard's alphabet.
    pre_standard : int
        Kept ids that are registration, tax registration or organisation codes from before the
        standard. They match only a party that holds the same old code.
    unusable : int
        Rows whose id is no code of any of these kinds.
    """

    ids: NDArray[np.bytes_]
    rows: NDArray[np.int64]
    n_rows: int
    blank: int
    duplicate: int
    invalid_check_digit: int
    pre_standard: int
    unusable: int

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={value}" for name, value in self.counts().items())
        return f"IdReport({counts})"

    def counts(self) -> dict[str, int]:
        """Return the counts by name, ``usable`` among them; no id, so fit for a log."""
        return {
            "n_rows": self.n_rows,
            "usable": len(self),
            "blank": self.blank,
            "duplicate": self.duplicate,
            "invalid_check_digit": self.invalid_check_digit,
            "pre_standard": self.pre_standard,
            "unusable": self.unusable,
        }

    def warnings(self) -> list[str]:
        """Return one sentence for each thing that the owner of the column should look at."""
        sentences = {
            "blank": "{} of {} rows have no id and cannot match.",
            "duplicate": "{} of {} rows repeat an id and were left out.",
            "unusable": "{} of {} rows hold an id that is no code of a known kind.",
            "invalid_check_digit": "{} ids of {} rows fail the check digit and were kept: typing "
            "errors, or genuine codes from before the standard.",
            "pre_standard": "{} ids of {} rows are codes from before GB 32100-2015; they match "
            "only where the other party holds the same old code.",
        }
        counts = self.counts()
        return [
            text.format(counts[name], self.n_rows)
            for name, text in sentences.items()
            if counts[name]
        ]


def normalise(
    values: Any, *, kind: IdKind = "uscc", duplicates: DuplicateRule = "first"
) -> IdReport:
    """Bring a column of ids to the spelling that the parties match on.

    Text goes through Unicode NFKC, so full-width characters become ASCII. For ``kind="uscc"``
    it is then upper-cased, and blanks, control and zero-width characters, hyphens and quotation
    marks are removed wherever they stand; ``kind="text"`` only strips the blanks around it.

    Parameters
    ----------
    values : sequence of str, bytes, int or missing
        A list, a numpy array, a pandas or polars Series, or a pyarrow Array or ChunkedArray.
        Integers are taken by their decimal digits.
    kind : {"uscc", "text"}
        The kind of id: unified social credit codes, or any text of at most 256 bytes.
    duplicates : {"first", "last", "error"}
        Which row stands for an id that occurs on several, or that there must be none.

    Returns
    -------
    IdReport

    Raises
    ------
    InputError
        For a column of floats (which cannot hold 18 digits), of nested values or of another
        type; for an unknown `kind` or `duplicates`; and for duplicates under ``"error"``.

    Examples
    --------
    >>> normalise(["９１１１００００６０００３７３４１ｌ", " 91110000-600037341L", None, "?"])
    IdReport(n_rows=4, usable=1, blank=1, duplicate=1, invalid_check_digit=0, pre_standard=0, \
unusable=1)
    """
    if kind not in ("uscc", "text"):
        raise InputError("Unknown kind of id.", step=_STEP, fix='use kind="uscc" or kind="text"')
    if duplicates not in ("first", "last", "error"):
        raise InputError(
            "Unknown rule for duplicates.", step=_STEP, fix='use "first", "last" or "error"'
        )
    text = pc.utf8_normalize(_as_text(values), form="NFKC")
    if kind == "uscc":
        text = pc.replace_substring_regex(pc.utf8_upper(text), pattern=_NOISE, replacement="")
    else:
        text = pc.replace_substring_regex(text, pattern=_OUTER_BLANKS, replacement="")
    size = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)

    blank = size == 0
    if kind == "uscc":
        standard = _matches(text, r"^[0-9A-Z]{18}$")
        pre_standard = _matches(text, _PRE_STANDARD)
        usable = standard | pre_standard
    else:
        # U+FFFD stands for bytes that are no text, and NUL would be lost at the end of a
        # fixed-width item: either could make two ids one.
        usable = ~blank & (size <= MAX_TEXT_BYTES) & ~_matches(text, "[\\x00\ufffd]")
    usable_rows = np.flatnonzero(usable)
    ids, kept = _unique(text.take(pa.array(usable_rows)), last=duplicates == "last")
    repeated = len(usable_rows) - len(ids)
    if repeated and duplicates == "error":
        raise InputError(
            f"{repeated} of {len(size)} rows repeat an id.",
            step=_STEP,
            fix='remove the duplicates, or choose duplicates="first" or "last"',
        )
    rows = usable_rows[kept]
    if kind == "uscc":
        at = standard[rows]
        invalid = int(at.sum() - _check_holds(_matrix(ids[at])).sum())
        old = int(pre_standard[rows].sum())
    else:
        invalid = old = 0
    return IdReport(
        ids=ids,
        rows=rows,
        n_rows=len(size),
        blank=int(blank.sum()),
        duplicate=repeated,
        invalid_check_digit=invalid,
        pre_standard=old,
        unusable=int((~blank & ~usable).sum()),
    )


def check_characters(bodies: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute the check character of each code (GB 32100-2015, 4.5: modulo 31, weights 3^i).

    Parameters
    ----------
    bodies : ndarray of uint8, shape (n, 17)
        The first seventeen characters of each code, in ASCII.

    Returns
    -------
    ndarray of uint8, shape (n,)
        The eighteenth, in ASCII.

    Raises
    ------
    InputError
        If the shape is another or a character is outside `ALPHABET`.
    """
    if bodies.ndim != 2 or bodies.shape[1] != LENGTH - 1:
        raise InputError("Code bodies must have the shape (n, 17).", step=_STEP)
    values = _VALUES[bodies]
    if bool((values == _OUTSIDE).any()):
        raise InputError("A code body has a character outside the alphabet.", step=_STEP)
    return _CHARACTERS[_check_values(values)]


def is_valid(codes: Sequence[str] | NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for each normalised code whether it is a USCC whose check character holds.

    Parameters
    ----------
    codes : sequence of str or bytes
        Codes as `normalise` returns them: nothing is stripped or upper-cased here.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    text = _as_text(codes)
    valid = _matches(text, r"^[0-9A-Z]{18}$")
    if valid.any():
        chosen = text.take(pa.array(np.flatnonzero(valid)))
        valid[valid] = _check_holds(_matrix(_fixed_width(chosen)))
    return valid


def _check_values(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Values of the check characters, from the values of seventeen characters each."""
    total = np.zeros(len(values), dtype=np.int64)
    for place, weight in enumerate(_WEIGHTS):  # by column: no (n, 17) array of int64
        total += weight * values[:, place]
    return -total % 31


def _check_holds(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Check codes of shape (n, 18): alphabet, digits in places 3 to 8, check character."""
    values = _VALUES[codes]
    inside = (values != _OUTSIDE).all(axis=1) & (values[:, 2:8] < 10).all(axis=1)
    holds: NDArray[np.bool_] = inside & (_check_values(values[:, :-1]) == values[:, -1])
    return holds


def _matrix(codes: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(codes, dtype=f"S{LENGTH}").view(np.uint8).reshape(-1, LENGTH)


def _matches(text: Any, pattern: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.fill_null(
        pc.match_substring_regex(text, pattern=pattern), False
    ).to_numpy(zero_copy_only=False)
    return found.copy()


def _fixed_width(text: Any) -> NDArray[np.bytes_]:
    """Copy a column without nulls into a fixed-width array, ``S18`` at least."""
    raw = text.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
    width = max(LENGTH, int(pc.max(pc.binary_length(text)).as_py() or 0))
    return raw.astype(f"S{width}")


def _unique(text: Any, *, last: bool) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Return the distinct values in first-seen order and the position that each stands for."""
    encoded = text.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    position = np.arange(len(codes), dtype=np.int64)
    kept = np.empty(len(encoded.dictionary), dtype=np.int64)
    if last:
        kept[codes] = position
    else:
        kept[codes[::-1]] = position[::-1]
    return _fixed_width(encoded.dictionary), kept


def _as_text(values: Any) -> Any:
    """Return the values as one pyarrow ``large_string`` array, null where a value is missing."""
    column = _as_arrow(values)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # an empty one stays chunked
        column = pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind) and column.null_count < len(column):
        raise InputError(
            "The ids are floating-point numbers, which cannot hold eighteen digits.",
            step=_STEP,
            fix="read the id column as text",
        )
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    missing = pa.types.is_null(kind) or pa.types.is_floating(kind)
    view = kind in (pa.string_view(), pa.binary_view()) or pa.types.is_fixed_size_binary(kind)
    if not (textual or binary or missing or view or pa.types.is_integer(kind)):
        raise InputError(
            f"The ids have the type {kind}, which is no text.",
            step=_STEP,
            fix="give one column of text",
        )
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return _each_as_text(column.to_pylist())


def _as_arrow(values: Any) -> Any:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes) or getattr(values, "ndim", 1) != 1:
        raise InputError("The ids are not one column.", step=_STEP, fix="give a list or a column")
    if hasattr(values, "to_arrow"):  # polars
        return values.to_arrow()
    if isinstance(values, np.ndarray) and values.dtype.kind in "SU":
        values = values.tolist()
    if not hasattr(values, "__len__"):
        values = list(values)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        # Mixed types, or text that is no Unicode. Arrow's message would quote the value.
        return _each_as_text(list(values))


def _each_as_text(values: list[Any]) -> Any:
    return pa.array([_one_as_text(value) for value in values], type=pa.large_string())


def _one_as_text(value: Any) -> str | None:
    """Text of one value of a mixed column; what is no text becomes the unusable U+FFFD."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float | np.floating):
        return None if value != value else "\ufffd"
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return value.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    return "\ufffd"
