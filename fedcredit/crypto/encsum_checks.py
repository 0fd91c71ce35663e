"""Checks of arguments that both schemes of the encrypted sums make alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import InputError, KeyMaterialError

__all__ = ["check_bins", "check_dense_pass", "check_dense_values", "check_pass", "check_values"]

_MAX_BINS = 0xFFFF


class _Profile(Protocol):
    @property
    def plain_bits(self) -> int: ...

    @property
    def max_rows(self) -> int: ...


class _DenseProfile(_Profile, Protocol):
    @property
    def value_bits(self) -> int: ...

    @property
    def summed_vectors(self) -> int: ...


def check_values(values: NDArray[np.int64], profile: _Profile) -> None:
    """Check vectors (V, n) before they are encrypted.

    Raises
    ------
    InputError
        If shape or type do not fit, or the sum of a vector's magnitudes may overflow.
    """
    if values.ndim != 2 or values.dtype != np.int64 or not values.shape[0]:
        raise InputError("values must be an int64 array, vectors by rows.")
    if not 1 <= values.shape[1] <= profile.max_rows:
        raise InputError(f"a pass of this profile takes 1 to {profile.max_rows} rows.")
    half = 1 << (profile.plain_bits - 1)
    if int(values.max()) >= half or int(values.min()) < -half:
        raise InputError("a value does not fit the plain modulus.", fix="lower the scale")
    for vector in values:
        # Magnitudes are below 2^51 and rows below 2^21, so halves are summed without overflow.
        if _total(vector[vector > 0]) >= half or -_total(vector[vector < 0]) > half:
            raise InputError(
                "the sums of a vector may overflow the plain modulus.", fix="lower the scale"
            )


def check_dense_values(values: NDArray[np.int64], profile: _DenseProfile) -> None:
    """Check vectors (V, n) before they are encrypted for inner products.

    Raises
    ------
    InputError
        If shape or type do not fit, or a value has too many bits.
    """
    if values.ndim != 2 or values.dtype != np.int64:
        raise InputError("values must be an int64 array, vectors by rows.")
    if not 1 <= values.shape[0] <= profile.summed_vectors:
        raise InputError(f"a pass of this profile takes 1 to {profile.summed_vectors} vectors.")
    if not 1 <= values.shape[1] <= profile.max_rows:
        raise InputError(f"a pass of this profile takes 1 to {profile.max_rows} rows.")
    end = 1 << (profile.value_bits - 1)
    if int(values.max()) >= end or int(values.min()) <= -end:
        raise InputError("a value has more bits than the profile says.", fix="lower the scale")


def _total(values: NDArray[np.int64]) -> int:
    """Add up numbers below 2^62 in magnitude without overflow."""
    low = int((values & np.int64(0xFFFFFF)).sum())
    return low + (int((values >> np.int64(24)).sum()) << 24)


def check_bins(
    bins: NDArray[np.unsignedinteger[Any]],
    n_bins: Sequence[int] | NDArray[np.integer[Any]],
    profile: _Profile,
    threads: int,
) -> NDArray[np.int64]:
    """Check a provider's bins (F, n) and return their numbers as int64.

    Raises
    ------
    InputError
        If shapes, types or sizes do not fit.
    """
    if bins.ndim != 2 or bins.dtype not in (np.uint8, np.uint16):
        raise InputError("bins must be a uint8 or uint16 array, features by rows.")
    if getattr(profile, "is_dense", False):
        raise InputError("the profile is for dense weights.", fix="use a profile of bins")
    counts = np.asarray(n_bins, np.int64)
    if counts.shape != (bins.shape[0],) or not counts.size:
        raise InputError("n_bins must give one number per feature.")
    if counts.min() < 1 or counts.max() > _MAX_BINS:
        raise InputError("every feature needs 1 to 65535 bins.")
    if not 1 <= bins.shape[1] <= profile.max_rows:
        raise InputError(
            f"a pass of this profile takes 1 to {profile.max_rows} rows.",
            fix="make the profile for the number of rows",
        )
    if threads < 1:
        raise InputError("threads must be at least 1.")
    return counts


def check_pass(profile: object, keys: Any, plan: Any, n_vectors: int, threads: int | None) -> int:
    """Check what a pass is made of and return its number of threads.

    Raises
    ------
    KeyMaterialError
        If the keys are of another profile.
    InputError
        If the plan is of another profile or the numbers make no sense.
    """
    if keys.profile != profile:
        raise KeyMaterialError("the public keys belong to another profile.")
    if plan.profile != profile:
        raise InputError("the plan belongs to another profile.")
    if n_vectors < 1:
        raise InputError("a pass has at least one vector.")
    chosen: int = plan.threads if threads is None else threads
    if chosen < 1:
        raise InputError("threads must be at least 1.")
    return chosen


def check_dense_pass(
    profile: Any,
    keys: Any,
    columns: NDArray[np.float64],
    tables: NDArray[np.float64],
    threads: int,
) -> None:
    """Check what a pass over dense weights is made of.

    Raises
    ------
    KeyMaterialError
        If the keys are of another profile.
    InputError
        If the profile has no dense weights, or shapes, types or numbers do not fit.
    """
    if keys.profile != profile:
        raise KeyMaterialError("the public keys belong to another profile.")
    if not profile.is_dense:
        raise InputError("the profile is for bins.", fix="use SumProfile.dense")
    for array, what in ((columns, "columns"), (tables, "tables")):
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.float64:
            raise InputError(f"{what} must be a two-dimensional float64 array.")
    if not len(columns) or columns.shape[1] != tables.shape[1]:
        raise InputError("columns and tables need one entry per row, and at least one column.")
    if not 1 <= len(tables) <= profile.summed_vectors:
        raise InputError(f"a pass of this profile takes 1 to {profile.summed_vectors} vectors.")
    if not 1 <= columns.shape[1] <= profile.max_rows:
        raise InputError(f"a pass of this profile takes 1 to {profile.max_rows} rows.")
    if threads < 1:
        raise InputError("threads must be at least 1.")
