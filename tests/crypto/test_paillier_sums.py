"""The encrypted sums under Paillier: exact, fresh, blinded above the sums, strict."""

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers
from fedcredit.crypto.paillier_profile import BLOCK_ROWS, TEST_KEY_BITS
from fedcredit.crypto.paillier_sums import (
    PaillierAccumulator,
    PaillierKeyHolder,
    PaillierPlan,
    PaillierProfile,
    PaillierPublicKeys,
)
from fedcredit.errors import (
    CiphertextError,
    ConfigError,
    CryptoError,
    InputError,
    KeyMaterialError,
    ParameterError,
)

BINS = [4, 1, 9]
N = BLOCK_ROWS * 2 + 5


@pytest.fixture(autouse=True)
def small_keys(monkeypatch):
    monkeypatch.setattr(PaillierProfile, "min_key_bits", TEST_KEY_BITS)


@pytest.fixture
def holder():
    return PaillierKeyHolder(PaillierProfile.exact(N))


def columns(n=N, seed=0, dtype=np.uint8):
    """Bins of every feature; about one row in ten is in none."""
    rng = np.random.default_rng(seed)
    bins = np.stack([rng.integers(0, k, n) for k in BINS]).astype(dtype)
    bins[rng.random(bins.shape) < 0.1] = np.iinfo(dtype).max
    return bins


def expected(values, bins):
    parts = [[values[:, bins[f] == b].sum(axis=1) for b in range(k)] for f, k in enumerate(BINS)]
    return np.stack([s for part in parts for s in part], axis=1)


def accumulator(holder, bins, n_vectors, **options):
    plan = PaillierPlan(bins, BINS, holder.profile)
    return PaillierAccumulator(holder.profile, holder.public_keys(), plan, n_vectors, **options)


def answers(holder, chunks, bins, n_vectors):
    acc = accumulator(holder, bins, n_vectors)
    for chunk in chunks:
        acc.add(chunk)
    return acc.finish()


@pytest.mark.parametrize("n_vectors", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n", [1, BLOCK_ROWS, N])
def test_sums_are_exact(n, dtype, n_vectors):
    holder = PaillierKeyHolder(PaillierProfile.exact(n, value_bits=18), threads=2)
    rng = np.random.default_rng(n)
    values = rng.integers(-(1 << 17) + 1, 1 << 17, (n_vectors, n))
    bins = columns(n, n, dtype)
    acc = accumulator(holder, bins, n_vectors, threads=2)
    for chunk in holder.encrypt(values):
        acc.add(chunk)
    sums = holder.decrypt(acc.finish(), n_vectors, BINS)
    assert sums.dtype == np.int64
    np.testing.assert_array_equal(sums, expected(values, bins))


def test_the_ends_of_the_range_come_back():
    """The blinding leaves the smallest and the largest sum as they are, each of many times."""
    holder = PaillierKeyHolder(PaillierProfile(TEST_KEY_BITS, 8, 2))
    for ends in ([-128, 0], [127, 0], [-100, -28], [100, 27]):
        values = np.array([ends], np.int64)
        chunks = list(holder.encrypt(values))
        for _ in range(5):
            plan = PaillierPlan(np.zeros((1, 2), np.uint8), [1], holder.profile)
            acc = PaillierAccumulator(holder.profile, holder.public_keys(), plan, 1)
            acc.add(chunks[0])
            assert holder.decrypt(acc.finish(), 1, [1]).tolist() == [[sum(ends)]]


def test_keys_of_full_size():
    profile = dataclasses.replace(PaillierProfile.packed(70), key_bits=2048)
    holder = PaillierKeyHolder(profile)
    values = np.random.default_rng(4).integers(-(1 << 30), 1 << 30, (1, 70))
    bins = columns(70)
    chunks = list(holder.encrypt(values))
    assert [chunk.c0.shape for chunk in chunks] == [(64, 512), (6, 512)]
    got = holder.decrypt(answers(holder, chunks, bins, 1), 1, BINS)
    np.testing.assert_array_equal(got, expected(values, bins))


# ---------------------------------------------------------------------------- what answers tell


def plaintexts(holder, reply):
    return holder._secret.decrypt(reply.c0)


@pytest.mark.parametrize("empty", [True, False])
def test_answers_do_not_tell_which_ciphertexts_were_multiplied(holder, empty):
    """Modulo n a product shows the rows' random factors only, which their encryptor knows.

    Fresh ones hide them, also for empty bins, whose product is 1.
    """
    bins = np.full((3, N), 255, np.uint8) if empty else columns()
    chunks = list(holder.encrypt(np.ones((1, N), np.int64)))
    replies = [answers(holder, chunks, bins, 1) for _ in range(3)]
    key = holder._secret.modulus
    products = accumulator(holder, bins, 1)
    for chunk in chunks:
        products.add(chunk)
    seen = {int(c % key.n) for c in products._sums[0]}
    fresh = {int(c % key.n) for reply in replies for c in key.read(reply.c0)}
    assert len(fresh) == 3 * sum(BINS)
    assert not fresh & seen
    for reply in replies:
        sums = holder.decrypt(reply, 1, BINS)
        np.testing.assert_array_equal(sums, expected(np.ones((1, N), np.int64), bins))


def test_what_a_dishonest_label_holder_hides_above_the_sums_is_blinded(holder):
    """Rows marked with high powers of two: the answers' upper bits are uniform either way."""
    key = holder._secret.modulus
    room = int(key.n) >> holder.profile.plain_bits
    plan = PaillierPlan(np.zeros((1, 1), np.uint8), [1], holder.profile)
    empty = np.zeros((0, 0), np.uint8)
    shares = {}
    for mark in (0, int(key.n) // 2):
        c0 = key.write(holder._secret.encrypt([mark]))
        shares[mark] = []
        for _ in range(200):
            acc = PaillierAccumulator(holder.profile, holder.public_keys(), plan, 1)
            acc.add(CiphertextChunk(0, 1, 1, empty, c0))
            (plain,) = plaintexts(holder, acc.finish())
            shares[mark].append((plain >> holder.profile.plain_bits) / room)
    for found in shares.values():
        # Mean and spread of 200 uniform numbers, five standard deviations.
        assert abs(np.mean(found) - 0.5) < 5 * 0.0205
        assert abs(np.std(found) - 0.2887) < 0.07


# ------------------------------------------------------------------------------------- strictness

EMPTY = np.zeros((0, 0), np.uint8)


def zeroed(array):
    out = array.copy()
    out[3] = 0
    return out


BAD_CHUNKS = {
    "skipped": {"first_block": 1},
    "negative": {"first_block": -1},
    "no blocks": {"n_blocks": 0},
    "more blocks": {"n_blocks": 2},
    "other vectors": {"n_vectors": 1},
    "seeds": {"seeds": np.zeros((1, 1), np.uint8)},
    "no seeds": {"seeds": None},
    "fewer": {"c0": lambda c0: c0[1:]},
    "narrower": {"c0": lambda c0: c0[:, 1:]},
    "type": {"c0": lambda c0: c0.astype(np.int8)},
    "zero": {"c0": zeroed},
    "too large": {"c0": lambda c0: np.full_like(c0, 255)},
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks_are_refused_and_change_nothing(holder, name):
    values = np.random.default_rng(1).integers(-9, 9, (2, N))
    bins = columns()
    chunks = list(holder.encrypt(values))
    change = {
        field: value(getattr(chunks[0], field)) if callable(value) else value
        for field, value in BAD_CHUNKS[name].items()
    }
    acc = accumulator(holder, bins, 2)
    with pytest.raises(CiphertextError):
        acc.add(dataclasses.replace(chunks[0], **change))
    for chunk in chunks:
        acc.add(chunk)
    np.testing.assert_array_equal(holder.decrypt(acc.finish(), 2, BINS), expected(values, bins))


def test_chunks_come_once_and_in_order(holder):
    chunks = list(holder.encrypt(np.ones((1, N), np.int64)))
    acc = accumulator(holder, columns(), 1)
    acc.add(chunks[0])
    with pytest.raises(CiphertextError, match="repeated"):
        acc.add(chunks[0])
    with pytest.raises(CiphertextError, match="missing at the end"):
        acc.finish()
    for chunk in chunks[1:]:
        acc.add(chunk)
    acc.finish()
    with pytest.raises(CiphertextError):
        acc.add(chunks[0])
    with pytest.raises(CryptoError, match="already"):
        acc.finish()


BAD_ANSWERS = {
    "other vectors": lambda a: dataclasses.replace(a, n_vectors=2),
    "other bins": lambda a: dataclasses.replace(a, total_bins=a.total_bins + 1),
    "fewer": lambda a: dataclasses.replace(a, c0=a.c0[1:]),
    "more": lambda a: dataclasses.replace(a, c0=np.concatenate([a.c0, a.c0[:1]])),
    "narrower": lambda a: dataclasses.replace(a, c0=a.c0[:, 1:]),
    "type": lambda a: dataclasses.replace(a, c0=a.c0.astype(np.uint16)),
    "zero": lambda a: dataclasses.replace(a, c0=zeroed(a.c0)),
    "too large": lambda a: dataclasses.replace(a, c0=np.full_like(a.c0, 255)),
    "second part": lambda a: dataclasses.replace(a, c1=a.c0),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answers_are_refused(holder, name):
    chunks = holder.encrypt(np.ones((1, N), np.int64))
    good = answers(holder, chunks, columns(), 1)
    with pytest.raises(CiphertextError):
        holder.decrypt(BAD_ANSWERS[name](good), 1, BINS)


def test_ciphertext_zero_as_an_answer_is_refused(holder):
    """It would give the key away, see the test of bare phe."""
    width = holder._secret.modulus.width
    reply = SumAnswers(1, 1, np.zeros((1, width), np.uint8), EMPTY)
    with pytest.raises(CiphertextError):
        holder.decrypt(reply, 1, [1])


BAD_VALUES = {
    "one dimension": np.zeros(4, np.int64),
    "type": np.zeros((1, 4), np.int32),
    "no vectors": np.zeros((0, 4), np.int64),
    "no rows": np.zeros((1, 0), np.int64),
    "too many rows": np.zeros((1, 5), np.int64),
    "too large": np.array([[128]]),
    "too small": np.array([[-129]]),
    "sums too large": np.array([[100, -50, 28]]),
    "sums too small": np.array([[-100, 50, -29]]),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_values_that_do_not_fit_are_refused(name):
    holder = PaillierKeyHolder(PaillierProfile(TEST_KEY_BITS, 8, 4))
    with pytest.raises(InputError):
        holder.encrypt(BAD_VALUES[name])


BAD_PLANS = {
    "one dimension": (np.zeros(N, np.uint8), [1]),
    "type": (np.zeros((1, N), np.int64), [1]),
    "counts": (np.zeros((1, N), np.uint8), [1, 1]),
    "no features": (np.zeros((0, N), np.uint8), []),
    "no bins": (np.zeros((1, N), np.uint8), [0]),
    "too many bins": (np.zeros((1, N), np.uint8), [1 << 16]),
    "no rows": (np.zeros((1, 0), np.uint8), [1]),
    "too many rows": (np.zeros((1, N + 1), np.uint8), [1]),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_plans_that_do_not_fit_are_refused(name):
    with pytest.raises(InputError):
        PaillierPlan(*BAD_PLANS[name], PaillierProfile.exact(N))


def test_parts_of_different_profiles_are_refused(holder):
    other = PaillierProfile.packed(N)
    plan = PaillierPlan(columns(), BINS, holder.profile)
    with pytest.raises(KeyMaterialError):
        PaillierAccumulator(other, holder.public_keys(), plan, 1)
    keys = dataclasses.replace(holder.public_keys(), profile=other)
    with pytest.raises(InputError):
        PaillierAccumulator(other, keys, plan, 1)
    for options in ({"n_vectors": 0}, {"n_vectors": 1, "threads": 0}):
        with pytest.raises(InputError):
            PaillierAccumulator(holder.profile, holder.public_keys(), plan, **options)
    with pytest.raises(InputError):
        PaillierPlan(columns(), BINS, holder.profile, threads=0)


def test_keys_without_a_proof_are_refused(holder):
    size = TEST_KEY_BITS // 8
    public_key = holder.public_keys().public_key[:size] + bytes(11 * size)
    keys = PaillierPublicKeys(holder.profile, public_key)
    plan = PaillierPlan(columns(), BINS, holder.profile)
    with pytest.raises(KeyMaterialError):
        PaillierAccumulator(holder.profile, keys, plan, 1)
    with pytest.raises(KeyMaterialError, match="Galois"):
        dataclasses.replace(holder.public_keys(), galois_keys=b"x").modulus()


# ------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize(
    "change",
    [
        {"key_bits": TEST_KEY_BITS},
        {"key_bits": 2032},
        {"key_bits": 2049},
        {"key_bits": 1 << 20},
        {"key_bits": 2048.0},
        {"plain_bits": 7},
        {"plain_bits": 53},
        {"plain_bits": True},
        {"max_rows": 0},
        {"max_rows": (1 << 20) + 1},
    ],
)
def test_profiles_out_of_range_are_refused(monkeypatch, change):
    monkeypatch.setattr(PaillierProfile, "min_key_bits", 2048)
    good = PaillierProfile.packed(N)
    assert good.key_bits == 2048
    assert PaillierProfile.packed(N, 3072).key_bits == 3072
    with pytest.raises(ParameterError):
        dataclasses.replace(good, **change)
    with pytest.raises(ParameterError):
        PaillierProfile.from_dict(good.to_dict() | change)


def test_profiles_go_over_the_wire_by_their_fields():
    profile = PaillierProfile.exact(N, value_bits=18)
    fields = profile.to_dict()
    assert PaillierProfile.from_dict(fields) == profile
    for bad in (fields | {"x": 1}, {"key_bits": TEST_KEY_BITS}, {}):
        with pytest.raises(ParameterError):
            PaillierProfile.from_dict(bad)


# -------------------------------------------------------------------------- secrets and packages


def test_the_secret_key_is_not_shown_or_pickled(holder):
    private = holder._secret._private
    for thing in (holder, holder.public_keys(), accumulator(holder, columns(), 1)):
        for number in (private.p, private.q):
            assert str(number) not in repr(thing)
            assert hex(number)[2:] not in repr(thing)
    for number in (private.p, private.q):
        assert number.to_bytes(TEST_KEY_BITS // 16, "big") not in holder.public_keys().public_key
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(holder)


@pytest.mark.parametrize("package", ["phe", "gmpy2"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=package) as caught:
        PaillierKeyHolder(PaillierProfile.packed(N))
    assert "fedcredit[paillier]" in caught.value.fix


def test_providers_need_no_phe(monkeypatch, holder):
    """phe is under the GPL; only who holds a secret key loads it."""
    chunks = list(holder.encrypt(np.ones((1, N), np.int64)))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "phe", None)
        reply = answers(holder, chunks, columns(), 1)
    assert holder.decrypt(reply, 1, BINS).sum() == (columns() < 255).sum()


def test_the_packages_are_loaded_when_first_needed():
    code = (
        "import sys, fedcredit.protocols.gbdt, fedcredit.protocols.gbdt_provider\n"
        "assert 'fedcredit.crypto.paillier_sums' in sys.modules\n"
        "sys.exit('phe' in sys.modules or 'gmpy2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
