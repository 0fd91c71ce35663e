"""Made-up enterprise codes that are well formed, and the ways in which real columns spoil them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.uscc import ALPHABET, check_characters

__all__ = ["make_codes", "registration_numbers", "respell", "spoil", "wrong_check"]

_ASCII: Final = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)
_ORGANISATION_WEIGHTS: Final = np.array([3, 7, 9, 10, 5, 8, 4, 2])  # GB 11714
_DIGIT_BODIES: Final = 10**8
_LETTER_BODIES: Final = 31**6


def make_codes(
    rng: np.random.Generator,
    regions: NDArray[np.int64],
    *,
    newer: NDArray[np.bool_],
    entity: NDArray[np.int64],
) -> NDArray[Any]:
    """Make distinct unified social credit codes whose check characters hold.

    Parameters
    ----------
    rng : numpy.random.Generator
    regions : ndarray of int64, shape (n,)
        Six-digit region codes (GB/T 2260).
    newer : ndarray of bool, shape (n,)
        Founded since codes are given out directly: the organisation code then begins with "MA".
    entity : ndarray of int64, shape (n,)
        Second character: 1 enterprise, 2 individual business, 3 farmers' cooperative.

    Returns
    -------
    ndarray of str objects, shape (n,)
    """
    n = len(regions)
    codes = np.empty((n, 18), dtype=np.uint8)
    codes[:, 0] = ord("9")
    codes[:, 1] = ord("0") + entity
    codes[:, 2:8] = ord("0") + _digits(regions, 10, 6)
    # A bijection on the row number keeps the organisation codes, hence the codes, distinct.
    bodies = _ASCII[_digits(_scatter(rng, n, _DIGIT_BODIES), 10, 8)]
    letters = _ASCII[_digits(_scatter(rng, n, _LETTER_BODIES), 31, 6)]
    bodies[newer, :2] = np.frombuffer(b"MA", dtype=np.uint8)
    bodies[newer, 2:] = letters[newer]
    codes[:, 8:16] = bodies
    codes[:, 16] = _organisation_check(bodies)
    codes[:, 17] = check_characters(codes[:, :17])
    return _as_objects(codes)


def registration_numbers(rng: np.random.Generator, regions: NDArray[np.int64]) -> NDArray[Any]:
    """Make distinct fifteen-digit registration numbers, as they were before the standard."""
    numbers = np.empty((len(regions), 15), dtype=np.uint8)
    numbers[:, :6] = ord("0") + _digits(regions, 10, 6)
    numbers[:, 6:] = ord("0") + _digits(_scatter(rng, len(regions), 10**9), 10, 9)
    return _as_objects(numbers)


def respell(rng: np.random.Generator, codes: NDArray[Any], *, share: float = 0.15) -> NDArray[Any]:
    """Write a share of the codes as people and spreadsheets do; `normalise` undoes it all."""
    spellings: tuple[Callable[[str], str], ...] = (
        lambda c: c.lower(),
        lambda c: c.translate(_FULL_WIDTH),
        lambda c: f" {c}",
        lambda c: f"{c}\u3000",
        lambda c: f"{c[:2]} {c[2:8]} {c[8:]}",
        lambda c: f"{c[:8]}-{c[8:17]}-{c[17:]}",
        lambda c: f"'{c}",
        lambda c: f"{c[:8]}\u200b{c[8:]}",
        lambda c: f"{c.lower().translate(_FULL_WIDTH)}\t",
    )
    odds = np.array([0.3, 0.14, 0.12, 0.12, 0.1, 0.08, 0.06, 0.04, 0.04])
    chosen = np.searchsorted(np.cumsum(odds * share), rng.random(len(codes)), side="right")
    spelled = codes.copy()
    for number, spelling in enumerate(spellings):
        for row in np.flatnonzero(chosen == number):
            spelled[row] = spelling(spelled[row])
    return spelled


def spoil(
    rng: np.random.Generator,
    codes: NDArray[Any],
    old_numbers: NDArray[Any],
    *,
    mistyped: float = 0.005,
    pre_standard: float = 0.008,
    blank: float = 0.003,
) -> NDArray[Any]:
    """Damage codes beyond repair: a wrong check character, an old number instead, or nothing."""
    kind = np.searchsorted(
        np.cumsum([mistyped, pre_standard, blank]), rng.random(len(codes)), side="right"
    )
    spoilt = codes.copy()
    for row in np.flatnonzero(kind == 0):
        spoilt[row] = wrong_check(codes[row], int(rng.integers(1, 31)))
    spoilt[kind == 1] = old_numbers[kind == 1]
    spoilt[kind == 2] = ""
    return spoilt


def wrong_check(code: str, step: int) -> str:
    """Move the check character `step` places along the alphabet, 1 to 30."""
    return code[:-1] + ALPHABET[(ALPHABET.index(code[-1]) + step) % 31]


_FULL_WIDTH: Final = {ord(c): ord(c) + 0xFEE0 for c in ALPHABET + ALPHABET.lower()}


def _scatter(rng: np.random.Generator, n: int, size: int) -> NDArray[np.int64]:
    """Send 0..n-1 one-to-one to seemingly random numbers below `size`."""
    factor = 0
    while np.gcd(factor, size) != 1:
        # Near the golden section of `size`, so that neighbours land far apart.
        factor = int(size * 0.618) + int(rng.integers(1, 10**4))
    start = int(rng.integers(size))
    return (start + np.arange(n, dtype=np.int64) * factor) % size


def _digits(numbers: NDArray[np.int64], base: int, places: int) -> NDArray[np.int64]:
    powers = base ** np.arange(places - 1, -1, -1, dtype=np.int64)
    digits: NDArray[np.int64] = numbers[:, None] // powers % base
    return digits


def _organisation_check(bodies: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check characters of organisation codes: modulo 11, X for ten (GB 11714)."""
    values = np.where(bodies >= ord("A"), bodies - (ord("A") - 10), bodies - ord("0"))
    check = -(values.astype(np.int64) @ _ORGANISATION_WEIGHTS) % 11
    return np.frombuffer(b"0123456789X", dtype=np.uint8)[check]


def _as_objects(characters: NDArray[np.uint8]) -> NDArray[Any]:
    fixed = np.ascontiguousarray(characters).view(f"S{characters.shape[1]}").ravel()
    return fixed.astype(str).astype(object)
