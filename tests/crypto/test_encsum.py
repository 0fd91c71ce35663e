"""The encrypted sums as a whole: every sum equals ``numpy.bincount``'s."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcredit.crypto.encsum_keyholder import (
    CiphertextChunk,
    SumAnswers,
    SumKeyHolder,
    SumPublicKeys,
    check_totals,
)
from fedcredit.crypto.encsum_pairs import fit_pair
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.encsum_provider import MaskPlan, SumAccumulator, decode_pair, encode_pair
from fedcredit.errors import CiphertextError, CryptoError, InputError, KeyMaterialError

ROWS = 12_000
PROFILES = {
    "packed 256": SumProfile.packed(ROWS, 256),
    "packed 512": SumProfile.packed(ROWS),
    "packed 1024": SumProfile.packed(ROWS, 1024),
    "packed 2048": SumProfile.packed(ROWS, 2048),
    "exact 512": SumProfile.exact(ROWS),
    "exact 1M 256": SumProfile.exact(1_000_000, 256),
    "unpacked 256": SumProfile(4096, 3, 37, 256, 54, 47, False, ROWS),
    "unpacked 1024": SumProfile(4096, 3, 37, 1024, 54, 47, False, ROWS),
    "assured 2048": SumProfile.high_assurance(ROWS),
    "five primes 512": SumProfile(8192, 5, 48, 512, 100, 58, True, ROWS),
}
_HOLDERS: dict[SumProfile, SumKeyHolder] = {}


def holder_of(profile):
    if profile not in _HOLDERS:
        _HOLDERS[profile] = SumKeyHolder(profile)
    return _HOLDERS[profile]


def expected_sums(bins, n_bins, values):
    out = []
    for vector in values:
        for column, k in zip(bins, n_bins, strict=True):
            sums = np.zeros(k, np.int64)
            inside = column < k
            np.add.at(sums, column[inside], vector[inside])
            out.append(sums)
    return np.concatenate(out).reshape(len(values), -1)


def run(holder, bins, n_bins, values, threads=1, plan=None):
    profile, keys = holder.profile, holder.public_keys()
    plan = plan or MaskPlan(bins, n_bins, profile, threads)
    accumulator = SumAccumulator(profile, keys, plan, len(values))
    for chunk in holder.encrypt(values):
        accumulator.add(chunk)
    return holder.decrypt(accumulator.finish(), len(values), n_bins)


def random_bins(rng, n_bins, n, missing=0.05, dtype=np.uint16):
    bins = np.stack([rng.integers(0, k, n) for k in n_bins]).astype(dtype)
    bins[rng.random(bins.shape) < missing] = np.iinfo(dtype).max
    return bins


CASES = [
    ("packed 256", [32, 5, 64, 2], 5000, 1),
    ("packed 256", [256] * 6, 600, 3),  # 288 sums: two packed ciphertexts
    ("packed 512", [32] * 4, 8192, 1),  # exactly one chunk
    ("packed 512", [3, 7, 2, 11, 9, 300], 8193, 2),
    ("packed 1024", [20, 33], 3000, 1),
    ("packed 2048", [10, 10, 6], 5000, 4),
    ("exact 512", [16, 16], 700, 2),
    ("exact 1M 256", [40, 1], 4500, 2),
    ("unpacked 256", [33, 20], 4500, 2),
    ("unpacked 1024", [5, 9], 1, 1),
    ("assured 2048", [12, 12, 3], 9000, 2),
    ("five primes 512", [31], 1000, 1),
]


@pytest.mark.parametrize(("name", "n_bins", "n", "n_vectors"), CASES)
def test_sums_are_exact(name, n_bins, n, n_vectors):
    profile = PROFILES[name]
    rng = np.random.default_rng(n)
    limit = (1 << (profile.plain_bits - 1)) // n // 2
    values = rng.integers(-limit, limit, (n_vectors, n))
    bins = random_bins(rng, n_bins, n)
    sums = run(holder_of(profile), bins, n_bins, values)
    assert sums.dtype == np.int64
    assert np.array_equal(sums, expected_sums(bins, n_bins, values))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_small_pass(data):
    profile = PROFILES[data.draw(st.sampled_from(["packed 512", "exact 512", "unpacked 256"]))]
    n_bins = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    n = data.draw(st.integers(1, 1100))
    n_vectors = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale = data.draw(st.integers(0, 14))
    values = rng.integers(-(1 << scale), (1 << scale) + 1, (n_vectors, n))
    bins = random_bins(rng, n_bins, n, data.draw(st.sampled_from([0.0, 0.3, 1.0])))
    sums = run(holder_of(profile), bins, n_bins, values)
    assert np.array_equal(sums, expected_sums(bins, n_bins, values))


def test_extreme_sums():
    profile = PROFILES["packed 512"]
    half = 1 << (profile.plain_bits - 1)
    values = np.zeros((2, 900), np.int64)
    values[0, [0, 899]] = half - 8, 7
    values[1, [0, 511]] = -half + 3, -3
    bins = np.zeros((2, 900), np.uint8)
    bins[1] = np.arange(900) % 2
    sums = run(holder_of(profile), bins, [1, 2], values)
    assert np.array_equal(sums, expected_sums(bins, [1, 2], values))


def test_threads_and_bin_types_change_nothing():
    holder = holder_of(PROFILES["packed 512"])
    rng = np.random.default_rng(3)
    n_bins = [32, 8, 100]
    bins = random_bins(rng, n_bins, 9000, dtype=np.uint8)
    values = rng.integers(-500, 500, (2, 9000))
    expected = expected_sums(bins, n_bins, values)
    for threads in (1, 2, 5):
        assert np.array_equal(run(holder, bins, n_bins, values, threads), expected)
    wide = np.where(bins == 255, 65535, bins).astype(np.uint16)
    assert np.array_equal(run(holder, wide, n_bins, values), expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_cached_masks(share):
    holder = holder_of(PROFILES["packed 256"])
    rng = np.random.default_rng(4)
    n_bins, n = [20, 30], 4096 * 2 + 100
    bins = random_bins(rng, n_bins, n)
    plan = MaskPlan(bins, n_bins, holder.profile, threads=2)
    used = plan.cache_masks(int(plan.mask_bytes * share))
    assert used <= plan.mask_bytes * share
    assert bool(used) == bool(share)
    for n_vectors in (1, 3, 2):
        values = rng.integers(-500, 500, (n_vectors, n))
        sums = run(holder, bins, n_bins, values, plan=plan)
        assert np.array_equal(sums, expected_sums(bins, n_bins, values))
    assert plan.cache_masks(0) == 0
    assert np.array_equal(run(holder, bins, n_bins, values, plan=plan), sums)


def test_pairs_end_to_end():
    holder = holder_of(PROFILES["packed 512"])
    rng = np.random.default_rng(5)
    g, h = rng.integers(-127, 128, 10_000), rng.integers(0, 64, 10_000)
    fit = fit_pair(g, h, holder.profile.plain_bits)
    assert fit.fits
    bins = random_bins(rng, [32] * 3, 10_000, missing=0)
    values = encode_pair(g, h, fit.split_bits)[None]
    sums = run(holder, bins, [32] * 3, values)
    check_totals(sums, [32] * 3, values.sum(axis=1))
    got_g, got_h = decode_pair(sums[0], fit.split_bits)
    assert np.array_equal(got_g, expected_sums(bins, [32] * 3, g[None])[0])
    assert np.array_equal(got_h, expected_sums(bins, [32] * 3, h[None])[0])


def test_one_accumulator_per_node_shares_nothing():
    holder = holder_of(PROFILES["packed 512"])
    rng = np.random.default_rng(6)
    for n in (1, 511, 512, 513):
        bins = random_bins(rng, [9], n)
        values = rng.integers(-99, 99, (1, n))
        assert np.array_equal(run(holder, bins, [9], values), expected_sums(bins, [9], values))


# ------------------------------------------------------------------------------------- totals


def test_totals():
    sums = np.array([[1, 2, 3, 4, 2], [5, 0, 5, 1, 9]])
    check_totals(sums[:, :2], [2], [3, 5])
    check_totals(np.array([[1, 2, 3], [5, 0, 5]]), [2, 1], [3, 5])
    with pytest.raises(CiphertextError, match="feature 1"):
        check_totals(sums, [2, 3], [3, 5])
    with pytest.raises(CiphertextError, match="shape"):
        check_totals(sums, [2, 2], [3, 5])


def test_totals_catch_a_row_without_bin():
    holder = holder_of(PROFILES["packed 512"])
    bins = np.zeros((2, 600), np.uint8)
    bins[1, 5] = 255
    values = np.ones((1, 600), np.int64)
    sums = run(holder, bins, [2, 2], values)
    with pytest.raises(CiphertextError, match="feature 1"):
        check_totals(sums, [2, 2], [600])


# --------------------------------------------------------------------------- malformed input


@pytest.fixture
def setting():
    profile = PROFILES["packed 256"]
    holder = holder_of(profile)
    rng = np.random.default_rng(7)
    n_bins, n = [9, 30], 5000
    bins = random_bins(rng, n_bins, n)
    values = rng.integers(-50, 50, (1, n))
    plan = MaskPlan(bins, n_bins, profile)
    accumulator = SumAccumulator(profile, holder.public_keys(), plan, 1)
    return profile, holder, accumulator, list(holder.encrypt(values)), (bins, n_bins, values)


def with_residue(chunk, profile, index, value):
    """Put a value in place of one 31-bit residue of the first ciphertext."""
    bits = np.unpackbits(chunk.c0[0], bitorder="little")
    bits[31 * index : 31 * index + 31] = [value >> i & 1 for i in range(31)]
    c0 = chunk.c0.copy()
    c0[0] = np.packbits(bits, bitorder="little")
    return CiphertextChunk(chunk.first_block, chunk.n_blocks, chunk.n_vectors, chunk.seeds, c0)


def test_residues_are_range_checked(setting):
    profile, holder, accumulator, chunks, (bins, n_bins, values) = setting
    primes = profile.context.primes
    for index, prime in ((0, primes[0]), (4096, primes[1]), (3 * 4096 - 1, primes[2])):
        for value in (prime, (1 << 31) - 1):
            bad = with_residue(chunks[0], profile, index, value)
            with pytest.raises(CiphertextError, match="not below its prime"):
                bad.validate(profile)
            with pytest.raises(CiphertextError, match="not below its prime"):
                accumulator.add(bad)
        with_residue(chunks[0], profile, index, prime - 1).validate(profile)
    for chunk in chunks:
        accumulator.add(chunk)
    sums = holder.decrypt(accumulator.finish(), 1, n_bins)
    assert np.array_equal(sums, expected_sums(bins, n_bins, values))


def altered(message, **changes):
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__}
    return type(message)(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"first_block": 16},
        {"first_block": -16},
        {"first_block": 3},
        {"n_blocks": 0},
        {"n_blocks": 17},
        {"n_blocks": 15},
        {"n_vectors": 0},
        {"n_vectors": 2},
        {"seeds": np.zeros((16, 63), np.uint8)},
        {"seeds": np.zeros((15, 64), np.uint8)},
        {"seeds": np.zeros((16, 64), np.int8)},
        {"c0": np.zeros((16, 10), np.uint8)},
        {"c0": b"c0"},
    ],
)
def test_malformed_chunks(setting, changes):
    _, _, accumulator, chunks, _ = setting
    with pytest.raises(CiphertextError):
        accumulator.add(altered(chunks[0], **changes))


def test_order_of_chunks(setting):
    _, _, accumulator, chunks, _ = setting
    assert [c.n_blocks for c in chunks] == [16, 4]
    with pytest.raises(CiphertextError, match="missing"):
        accumulator.add(chunks[1])
    accumulator.add(chunks[0])
    with pytest.raises(CiphertextError, match="repeated"):
        accumulator.add(chunks[0])
    with pytest.raises(CiphertextError, match="missing"):
        accumulator.finish()
    accumulator.add(chunks[1])
    with pytest.raises(CiphertextError, match="too much"):
        accumulator.add(altered(chunks[0], first_block=32))
    accumulator.finish()
    with pytest.raises(CryptoError, match="already"):
        accumulator.finish()


def test_malformed_answers(setting):
    profile, holder, accumulator, chunks, (_, n_bins, _) = setting
    for chunk in chunks:
        accumulator.add(chunk)
    good = accumulator.finish()
    good.validate(profile, 1, 39)
    bad = [
        altered(good, n_vectors=2),
        altered(good, total_bins=38),
        altered(good, c0=good.c0[:, :-8]),
        altered(good, c1=good.c1[:0]),
        altered(good, c1=good.c1.astype(np.int64)),
        altered(good, c0=good.c0[0]),
    ]
    for answers in bad:
        with pytest.raises(CiphertextError):
            holder.decrypt(answers, 1, n_bins)


def test_foreign_answers_are_noticed(setting):
    profile, holder, accumulator, chunks, (_, n_bins, _) = setting
    for chunk in chunks:
        accumulator.add(chunk)
    answers = accumulator.finish()
    flipped = answers.c1.copy()
    flipped[0, 1234] ^= 0x80
    for bad in (flipped, np.random.default_rng(0).integers(0, 256, flipped.shape, np.uint8)):
        with pytest.raises(CiphertextError, match=r"more sums|no bin"):
            holder.decrypt(altered(answers, c1=bad), 1, n_bins)
    stranger = SumKeyHolder(profile)
    with pytest.raises(CiphertextError, match=r"more sums|no bin"):
        stranger.decrypt(answers, 1, n_bins)


def test_padding_of_unpacked_answers():
    profile = PROFILES["unpacked 1024"]
    answers = SumAnswers(1, 3, np.zeros((1, 24), np.uint8), np.zeros((1, 4096 * 47 // 8), np.uint8))
    answers.validate(profile, 1, 3)
    answers.c0[0, -1] = 0x80
    with pytest.raises(CiphertextError, match="padding"):
        answers.validate(profile, 1, 3)


def test_keys_and_profiles_must_agree(setting):
    profile, holder, _, _, (bins, n_bins, _) = setting
    other = PROFILES["packed 512"]
    keys = holder.public_keys()
    plan = MaskPlan(bins, n_bins, profile)
    with pytest.raises(KeyMaterialError, match="another profile"):
        SumAccumulator(other, keys, plan, 1)
    with pytest.raises(InputError, match="another profile"):
        SumAccumulator(other, holder_of(other).public_keys(), plan, 1)
    with pytest.raises(KeyMaterialError):
        SumAccumulator(profile, SumPublicKeys(profile, keys.public_key, b"none"), plan, 1)
    short = SumPublicKeys(profile, keys.public_key[:-8], keys.galois_keys)
    with pytest.raises(KeyMaterialError, match="length"):
        SumAccumulator(profile, short, plan, 1)
    wrong = keys.public_key[:64] + bytes([255]) * 8 + keys.public_key[72:]
    with pytest.raises(KeyMaterialError, match="not below its prime"):
        SumAccumulator(profile, SumPublicKeys(profile, wrong, keys.galois_keys), plan, 1)
    lacking = holder._keys.galois_keys(profile.galois_elements[1:])
    with pytest.raises(KeyMaterialError, match="missing"):
        SumAccumulator(profile, SumPublicKeys(profile, keys.public_key, lacking), plan, 1)


def test_values_that_cannot_be_encrypted():
    holder = holder_of(PROFILES["packed 512"])
    half = 1 << (holder.profile.plain_bits - 1)
    for values in (
        np.zeros(5, np.int64),
        np.zeros((1, 5)),
        np.zeros((0, 5), np.int64),
        np.zeros((1, 0), np.int64),
        np.zeros((1, ROWS + 1), np.int64),
        np.array([[half]]),
        np.array([[-half - 1]]),
        np.array([[half - 1, 1, -5]]),
        np.array([[-half, -1, 5]]),
    ):
        with pytest.raises(InputError):
            holder.encrypt(values)


def test_plans_that_make_no_sense():
    profile = PROFILES["packed 512"]
    bins = np.zeros((2, 10), np.uint8)
    for args in (
        (bins.astype(np.int64), [2, 2]),
        (bins[0], [2]),
        (bins, [2]),
        (bins, [2, 0]),
        (bins[:0], []),
        (bins[:, :0], [2, 2]),
        (np.zeros((1, ROWS + 1), np.uint8), [2]),
    ):
        with pytest.raises(InputError):
            MaskPlan(*args, profile)
    with pytest.raises(InputError):
        MaskPlan(bins, [2, 2], profile, threads=0)


# ----------------------------------------------------------------------------------- secrets


def test_secrets_do_not_travel():
    holder = SumKeyHolder(PROFILES["packed 512"])
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(holder)
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(holder)
    assert holder.public_keys().fingerprint()[:16] in repr(holder)
    assert len(repr(holder)) < 40


def test_fingerprint_binds_keys_and_profile():
    keys = holder_of(PROFILES["packed 512"]).public_keys()
    other = SumKeyHolder(PROFILES["packed 512"]).public_keys()
    assert keys.fingerprint() == altered(keys).fingerprint()
    assert len(keys.fingerprint()) == 64
    prints = {
        keys.fingerprint(),
        other.fingerprint(),
        altered(keys, galois_keys=other.galois_keys).fingerprint(),
        altered(keys, profile=SumProfile.packed(ROWS - 1)).fingerprint(),
        altered(keys, public_key=keys.public_key + b"\0").fingerprint(),
    }
    assert len(prints) == 5


def test_answers_are_fresh(setting):
    profile, holder, _, chunks, (bins, n_bins, _) = setting
    answers = []
    for _ in range(2):
        plan = MaskPlan(bins, n_bins, profile)
        accumulator = SumAccumulator(profile, holder.public_keys(), plan, 1)
        for chunk in chunks:
            accumulator.add(chunk)
        answers.append(accumulator.finish())
    assert np.mean(answers[0].c1 == answers[1].c1) < 0.01
    assert np.mean(answers[0].c0 == answers[1].c0) < 0.01


@pytest.mark.slow
def test_a_million_rows():
    rng = np.random.default_rng(8)
    n, n_bins = 1_000_000, [32, 16]
    profile = SumProfile.exact(n, 1024)
    values = rng.integers(-(2**16) + 1, 2**16, (2, n))
    bins = random_bins(rng, n_bins, n, missing=0)
    sums = run(SumKeyHolder(profile), bins, n_bins, values, threads=2)
    check_totals(sums, n_bins, values.sum(axis=1))
    assert np.array_equal(sums, expected_sums(bins, n_bins, values))
