"""Inner products with dense weights: exact, masked, checked, and hidden by the flood."""

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.encsum_dense import DenseAccumulator, unmasked
from fedcredit.crypto.encsum_keyholder import SumKeyHolder
from fedcredit.crypto.encsum_profile import MAX_ROWS, SumProfile
from fedcredit.crypto.encsum_provider import MaskPlan
from fedcredit.errors import (
    CiphertextError,
    CryptoError,
    InputError,
    KeyMaterialError,
    ParameterError,
)

BLOCK = 8192
N = BLOCK + 700
VALUE_BITS, WEIGHT_BITS = 12, 14
SMALL = SumProfile.dense(N, n_vectors=3, value_bits=VALUE_BITS, weight_bits=WEIGHT_BITS)


@pytest.fixture(scope="module")
def holder():
    return SumKeyHolder(SMALL)


def case(n, n_vectors, n_columns, seed=0):
    """Values (V, n), columns (F, n) and tables (V, n) that use all their bits."""
    rng = np.random.default_rng(seed)
    value, weight = 1 << (VALUE_BITS - 1), 1 << (WEIGHT_BITS - 1)
    values = rng.integers(1 - value, value, (n_vectors, n))
    columns = rng.uniform(-1, 1, (n_columns, n)) * (weight - 1)
    return values, columns, rng.uniform(-1, 1, (n_vectors, n))


def weights_of(columns, tables):
    return np.rint(columns[:, None, :] * tables[None]).astype(np.int64)


def expected(values, columns, tables):
    return np.einsum("fvn,vn->f", weights_of(columns, tables), values)


def run(holder, values, columns, tables, *, masked=False, threads=1):
    accumulator = DenseAccumulator(
        holder.profile, holder.public_keys(), columns, tables, masked=masked, threads=threads
    )
    for chunk in holder.encrypt(values):
        accumulator.add(chunk)
    answers, masks = accumulator.finish()
    return holder.decrypt(answers, 1, [1] * len(columns))[0], masks


# -------------------------------------------------------------------------------------- exact


@pytest.mark.parametrize(
    ("n", "n_vectors", "n_columns", "threads"),
    [
        (1, 1, 1, 1),
        (1, 3, 2, 1),
        (BLOCK, 1, 3, 1),
        (N, 3, 17, 2),
        (N, 2, 33, 3),
    ],
)
def test_inner_products_are_exact(holder, n, n_vectors, n_columns, threads):
    values, columns, tables = case(n, n_vectors, n_columns, seed=n)
    got, masks = run(holder, values, columns, tables, threads=threads)
    assert masks is None
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected(values, columns, tables))


def test_more_than_one_chunk_of_sixteen_blocks_and_sixteen_vectors():
    n, n_vectors = 17 * BLOCK + 5, 16
    profile = SumProfile.dense(n, n_vectors=n_vectors, value_bits=12, weight_bits=14)
    rng = np.random.default_rng(7)
    values = np.zeros((n_vectors, n), np.int64)
    values[:, ::1009] = rng.integers(-2047, 2048, values[:, ::1009].shape)
    columns = rng.integers(-8191, 8192, (2, n)).astype(float)
    tables = rng.choice([-1.0, 1.0], (n_vectors, n))
    holder = SumKeyHolder(profile)
    accumulator = DenseAccumulator(profile, holder.public_keys(), columns, tables, masked=False)
    sizes = []
    for chunk in holder.encrypt(values):
        sizes.append((chunk.first_block, chunk.n_blocks))
        accumulator.add(chunk)
    assert sizes == [(0, 16), (16, 2)]
    answers, _ = accumulator.finish()
    got = holder.decrypt(answers, 1, [1, 1])[0]
    want = [int(((tables * column).astype(np.int64) * values).sum()) for column in columns]
    assert got.tolist() == want


def test_the_largest_sums_fit():
    n, n_vectors = 500, 16
    profile = SumProfile.dense(n, n_vectors=n_vectors, value_bits=17, weight_bits=13)
    values = np.full((n_vectors, n), (1 << 16) - 1)
    columns = np.stack([np.full(n, 4095.0), np.full(n, -4095.0)])
    got, _ = run(SumKeyHolder(profile), values, columns, np.ones((n_vectors, n)))
    most = n * n_vectors * ((1 << 16) - 1) * 4095
    assert got.tolist() == [most, -most]
    assert most < 1 << (profile.plain_bits - 1) <= 2 * most


def test_the_widest_modulus_and_five_primes():
    """52 bits leave the least room; 24-bit weights make the most noise."""
    profile = SumProfile.dense(MAX_ROWS, n_vectors=16, value_bits=30, weight_bits=24, sum_bits=52)
    assert (profile.plain_bits, profile.primes) == (52, 5)
    assert profile.statistical_distance() < -40
    n = 300
    rng = np.random.default_rng(3)
    columns = rng.integers(-(1 << 23) + 1, 1 << 23, (20, n)).astype(float)
    values = rng.integers(-(1 << 19), 1 << 19, (16, n))
    tables = rng.choice([-1.0, 1.0], (16, n))
    got, masks = run(SumKeyHolder(profile), values, columns, tables, masked=True)
    np.testing.assert_array_equal(
        unmasked(got, masks, profile.plain_bits), expected(values, columns, tables)
    )


def test_unpacked_answers(holder):
    profile = dataclasses.replace(SMALL, packed_answers=False)
    values, columns, tables = case(900, 2, 3)
    own = SumKeyHolder(profile)
    got, masks = run(own, values, columns, tables, masked=True)
    np.testing.assert_array_equal(
        unmasked(got, masks, profile.plain_bits), expected(values, columns, tables)
    )
    assert own.public_keys().nbytes < 0.1 * holder.public_keys().nbytes


def test_columns_of_zeros(holder):
    values, columns, tables = case(900, 2, 3)
    columns[1] = 0
    got, _ = run(holder, values, columns, tables)
    assert got[1] == 0
    np.testing.assert_array_equal(got, expected(values, columns, tables))
    got, _ = run(holder, values * 0, columns, tables)
    assert not got.any()


def test_weights_are_rounded_halves_to_even(holder):
    columns = np.array([[0.5, 1.5, -2.5, 0.49, -0.51]])
    values = np.array([[1, 10, 100, 1000, 2000]])
    got, _ = run(holder, values, columns, np.ones((1, 5)))
    assert got.tolist() == [0 + 20 - 200 + 0 - 2000]


# -------------------------------------------------------------------------------------- masks


def test_masks_come_off(holder):
    values, columns, tables = case(900, 3, 20)
    first, masks = run(holder, values, columns, tables, masked=True)
    second, others = run(holder, values, columns, tables, masked=True)
    want = expected(values, columns, tables)
    for got, taken in ((first, masks), (second, others)):
        assert taken.dtype == np.int64
        assert taken.min() >= 0
        assert taken.max() < 1 << SMALL.plain_bits
        assert not np.any(got == want)
        np.testing.assert_array_equal(unmasked(got, taken, SMALL.plain_bits), want)
    assert not np.any(masks == others)


def test_masked_numbers_are_uniform(holder):
    values, columns, tables = case(50, 1, 1)
    got, _ = run(holder, values, np.repeat(columns, 640, axis=0), tables, masked=True)
    counts = np.bincount((got >> (SMALL.plain_bits - 4)) + 8, minlength=16)
    # Pearson's chi-square with 15 degrees of freedom: above 60 once in three million runs.
    assert ((counts - 40) ** 2 / 40).sum() < 60
    assert 250 < (got & 1).sum() < 390  # five standard deviations


def test_unmasking_wraps_around():
    half = 1 << 19
    values = np.array([half - 1, -half, 3], np.int64)
    masks = np.array([2 * half - 1, 1, 5], np.int64)
    assert unmasked(values, masks, 20).tolist() == [-half, half - 1, -2]
    with pytest.raises(InputError):
        unmasked(values, masks[:2], 20)
    with pytest.raises(InputError):
        unmasked(values, masks.astype(float), 20)


# ------------------------------------------------------------------------------------ refusals


def changed_inputs():
    _, columns, tables = case(900, 3, 2)
    spoilt = columns.copy()
    spoilt[1, 7] = np.nan
    endless = tables.copy()
    endless[2, 899] = np.inf
    large = np.zeros_like(columns)
    large[1, 899] = 8191.5
    return {
        "a row of columns": (columns[0], tables),
        "whole numbers": (columns.astype(np.int64), tables),
        "single precision": (columns, tables.astype(np.float32)),
        "no columns": (columns[:0], tables),
        "no vectors": (columns, tables[:0]),
        "other rows": (columns, tables[:, 1:]),
        "no rows": (columns[:, :0], tables[:, :0]),
        "too many rows": (np.zeros((1, N + 1)), np.zeros((1, N + 1))),
        "too many vectors": (columns, np.ones((4, 900))),
        "a missing value": (spoilt, tables),
        "an infinite factor": (columns, endless),
        "a weight too large": (large, np.ones((3, 900))),
        "a weight too small": (-large, np.ones((3, 900))),
    }


@pytest.mark.parametrize("name", changed_inputs())
def test_unusable_weights(holder, name):
    columns, tables = changed_inputs()[name]
    with pytest.raises(InputError):
        DenseAccumulator(SMALL, holder.public_keys(), columns, tables, masked=False)


def test_weights_that_meet_only_in_part_are_looked_at_row_by_row(holder):
    """The largest column entry meets a small factor, so no weight is too large."""
    columns, tables = np.array([[1e6, 1.0]]), np.array([[1e-3, 8000.4]])
    got, _ = run(holder, np.array([[1, 1]]), columns, tables)
    assert got.tolist() == [1000 + 8000]


def test_other_profiles_and_threads(holder):
    _, columns, tables = case(900, 1, 2)
    keys = holder.public_keys()
    other = SumProfile.dense(N, n_vectors=4, value_bits=VALUE_BITS, weight_bits=WEIGHT_BITS)
    with pytest.raises(KeyMaterialError):
        DenseAccumulator(other, keys, columns, tables, masked=False)
    with pytest.raises(InputError, match="threads"):
        DenseAccumulator(SMALL, keys, columns, tables, masked=False, threads=0)
    bins = SumKeyHolder(SumProfile.packed(900))
    with pytest.raises(InputError, match="for bins"):
        DenseAccumulator(bins.profile, bins.public_keys(), columns, tables, masked=False)
    with pytest.raises(InputError, match="dense"):
        MaskPlan(np.zeros((1, 900), np.uint8), [2], SMALL)


def test_unusable_values(holder):
    most = 1 << (VALUE_BITS - 1)
    for values in (
        np.zeros(5, np.int64),
        np.zeros((1, 5)),
        np.zeros((0, 5), np.int64),
        np.zeros((4, 5), np.int64),
        np.zeros((1, 0), np.int64),
        np.zeros((1, N + 1), np.int64),
        np.array([[0, most]]),
        np.array([[-most, 0]]),
    ):
        with pytest.raises(InputError):
            holder.encrypt(values)
    assert len(list(holder.encrypt(np.array([[most - 1, 1 - most]])))) == 1


def test_malformed_chunks(holder):
    values, columns, tables = case(N, 2, 2)
    (chunk,) = holder.encrypt(values)
    accumulator = DenseAccumulator(SMALL, holder.public_keys(), columns, tables, masked=False)
    out_of_range = chunk.c0.copy()
    out_of_range[-1] = 255
    for change in (
        {"first_block": 16},
        {"first_block": -16},
        {"n_blocks": 1, "seeds": chunk.seeds[:2], "c0": chunk.c0[:2]},
        {"n_vectors": 1, "seeds": chunk.seeds[:2], "c0": chunk.c0[:2]},
        {"n_blocks": 1, "n_vectors": 4},
        {"seeds": chunk.seeds[:, 1:]},
        {"c0": chunk.c0[:, 8:]},
        {"c0": chunk.c0.astype(np.int16)},
        {"c0": out_of_range},
    ):
        with pytest.raises(CiphertextError):
            accumulator.add(dataclasses.replace(chunk, **change))
    with pytest.raises(CiphertextError, match="missing at the end"):
        accumulator.finish()
    accumulator.add(chunk)
    with pytest.raises(CiphertextError, match="too much"):
        accumulator.add(chunk)
    answers, _ = accumulator.finish()
    with pytest.raises(CryptoError, match="already"):
        accumulator.finish()
    got = holder.decrypt(answers, 1, [1, 1])[0]
    np.testing.assert_array_equal(got, expected(values, columns, tables))
    for bad in (
        dataclasses.replace(answers, total_bins=3),
        dataclasses.replace(answers, c0=answers.c0[:, 8:]),
        dataclasses.replace(answers, c1=answers.c1 ^ np.uint8(85)),
    ):
        with pytest.raises(CiphertextError):
            holder.decrypt(bad, 1, [1, 1])


def test_nothing_is_printed(holder):
    _, columns, tables = case(900, 1, 2)
    accumulator = DenseAccumulator(SMALL, holder.public_keys(), columns, tables, masked=True)
    assert repr(accumulator) == "DenseAccumulator(block 0 of 1)"


# ------------------------------------------------------------------------------------- profile


def test_profiles_keep_their_promises():
    for n in (1, 150_000, MAX_ROWS):
        for n_vectors in (1, 6, 16):
            for value_bits in (12, 17):
                for weight_bits in (13, 14):
                    largest = n * n_vectors << (value_bits + weight_bits - 2)
                    declared = 52 if largest >= 1 << 51 else None
                    profile = SumProfile.dense(
                        n,
                        n_vectors=n_vectors,
                        value_bits=value_bits,
                        weight_bits=weight_bits,
                        sum_bits=declared,
                    )
                    assert profile.statistical_distance() < -40
                    assert (profile.degree, profile.primes, profile.block) == (8192, 4, 8192)
                    if declared is None:
                        assert largest <= 1 << profile.plain_bits
    with pytest.raises(ParameterError, match="declare"):
        SumProfile.dense(MAX_ROWS, n_vectors=16, value_bits=17, weight_bits=14)


def test_the_distance_counts_rows_vectors_and_weights():
    def distance(n, n_vectors, weight_bits):
        profile = SumProfile.dense(
            n, n_vectors=n_vectors, value_bits=12, weight_bits=weight_bits, sum_bits=45
        )
        return profile.statistical_distance()

    one = distance(1000, 1, 8)
    assert distance(4000, 1, 8) - one == pytest.approx(1)
    assert distance(1000, 16, 8) - one == pytest.approx(2)
    assert distance(1000, 1, 11) - one == pytest.approx(3)


def test_sizes_and_round_trip():
    assert SMALL.is_dense
    assert (SMALL.pack_steps, SMALL.kept_coefficients) == (4, 16)
    assert SMALL.galois_elements == (3, 5, 9, 17)
    assert SumProfile.from_dict(SMALL.to_dict()) == SMALL
    assert not SumProfile.high_assurance(1000).is_dense


@pytest.mark.parametrize(
    "change",
    [
        {"weight_bits": 1},
        {"weight_bits": 25},
        {"value_bits": 1},
        {"value_bits": 41},
        {"summed_vectors": 0},
        {"summed_vectors": 65},
        {"degree": 4096, "primes": 3, "block": 4096},
        {"block": 2048},
        {"flood_bits": SMALL.flood_bits + 1},
    ],
)
def test_profiles_outside_the_table(change):
    with pytest.raises(ParameterError):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize(
    "numbers",
    [
        {"n_vectors": 0},
        {"n_vectors": 65},
        {"value_bits": 1},
        {"value_bits": 400},
        {"weight_bits": 1},
        {"weight_bits": 25},
        {"sum_bits": 53},
    ],
)
def test_numbers_outside_the_table(numbers):
    usual = {"n_vectors": 1, "value_bits": 8, "weight_bits": 8}
    with pytest.raises(ParameterError):
        SumProfile.dense(1000, **{**usual, **numbers})


def test_there_is_no_switch_for_the_flood(holder):
    _, columns, tables = case(900, 1, 2)
    with pytest.raises(TypeError):
        DenseAccumulator(SMALL, holder.public_keys(), columns, tables, masked=False, flood=False)
