"""Sums under the institution's key: exact, small, and closed to everything else."""

import copy
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedcredit.crypto import encscore
from fedcredit.crypto.encscore import (
    MAX_TERMS,
    SLOTS,
    WORD_MASK,
    ScoreEncryptor,
    ScoreKeyHolder,
    add_ciphertexts,
    ciphertext_bytes,
    ciphertext_digest,
    ciphertext_slots,
    decode_words,
    encode_parts,
    encode_values,
)
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError
from tests.support.scoring import noise_of


@pytest.fixture(scope="module")
def holder():
    return ScoreKeyHolder.generate()


@pytest.fixture(scope="module")
def encryptor(holder):
    return ScoreEncryptor(holder.public)


def random_words(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << 59, shape, dtype=np.uint64)


# ---------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize("slots", [1, 2, 3, 64, 3200, 4095, 4096])
@pytest.mark.parametrize("parties", [1, 2, 9])
def test_a_sum_is_exact(holder, encryptor, slots, parties):
    words = random_words((parties, slots), seed=slots)
    total = add_ciphertexts([encryptor.encrypt(row) for row in words], holder.key_id)
    assert len(total) == ciphertext_bytes(slots)
    got = holder.decrypt(total)
    assert got.shape == (SLOTS,)
    np.testing.assert_array_equal(got[:slots], words.sum(0) & WORD_MASK)
    assert not got[slots:].any()


def test_sums_of_sums_and_extreme_words_are_exact(holder, encryptor):
    extreme = np.array([0, 1, (1 << 59) - 1, 1 << 58, (1 << 58) - 1], np.uint64)
    once = add_ciphertexts([encryptor.encrypt(extreme)] * 2)
    twice = add_ciphertexts([once, encryptor.encrypt(extreme)])
    np.testing.assert_array_equal(holder.decrypt(twice)[:5], extreme * np.uint64(3) & WORD_MASK)


def test_the_largest_sum_is_exact_and_one_more_is_refused(holder, encryptor):
    words = random_words((MAX_TERMS, SLOTS))
    fresh = [encryptor.encrypt(row) for row in words]
    total = add_ciphertexts(fresh)
    np.testing.assert_array_equal(holder.decrypt(total), words.sum(0) & WORD_MASK)
    with pytest.raises(CiphertextError, match="more than 64"):
        add_ciphertexts([total, fresh[0]])


def test_noise_is_what_the_parameters_say(holder, encryptor):
    """Fresh noise has a deviation of 240; a sum of 64 stays 16 deviations below Q / 2t."""
    zeros = np.zeros(SLOTS, np.uint64)
    fresh = [encryptor.encrypt(zeros) for _ in range(MAX_TERMS)]
    noise = noise_of(holder, fresh[0])
    assert 220 < noise.std() < 260
    assert abs(noise.mean()) < 5 * 240 / 64
    total = noise_of(holder, add_ciphertexts(fresh))
    assert 1700 < total.std() < 2100
    modulus = np.prod([float(p) for p in holder._primes])
    assert modulus / 2.0**60 > 15 * total.std()
    assert holder.noise_budget(fresh[0]) >= 4


def test_a_ciphertext_of_few_slots_is_half_as_long():
    assert ciphertext_bytes(1) == 38_440
    assert ciphertext_bytes(SLOTS) == 76_824


def test_encryption_is_fresh_and_looks_uniform(encryptor):
    zeros = np.zeros(SLOTS, np.uint64)
    one, two = encryptor.encrypt(zeros), encryptor.encrypt(zeros)
    assert one[24:] != two[24:]
    assert ciphertext_digest(one) != ciphertext_digest(two)
    same = np.mean(np.frombuffer(one[24:], np.uint8) == np.frombuffer(two[24:], np.uint8))
    assert same < 0.01
    # Primes a little below 2^25 leave the top bits of residues slightly uneven.
    assert abs(np.unpackbits(np.frombuffer(one[24:], np.uint8)).mean() - 0.5) < 0.01


def test_kernel_agrees_with_polynomial_arithmetic(encryptor):
    """The encryption of zero against exact convolution modulo the first prime."""
    tables = encryptor._tables
    n, p = SLOTS, int(tables.primes[0])
    rng = np.random.default_rng(3)
    u = rng.integers(-1, 2, n)
    errors = rng.integers(-9, 10, (2, n))
    out = np.empty((2, 3, n), np.uint32)
    arguments = (tables.primes, tables.forward, tables.inverse, tables.n_inv)
    encscore.encrypt_zero(u, errors, encryptor._public, *arguments, out)
    for half in range(2):
        key = tables.restore(np.ascontiguousarray(encryptor._public[half, :, 0]))[0]
        for where in (0, 1, 2000, n - 1):
            # Coefficient i of a product modulo X^n + 1.
            turned = np.concatenate([u[where::-1], -u[:where:-1]])
            exact = int(np.dot(key.astype(object), turned.astype(object)))
            assert out[half, 0, where] == (exact + int(errors[half, where])) % p


# -------------------------------------------------------------------------------------- words


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(1 << 30), (1 << 30) - 1), min_size=1, max_size=5))
def test_values_come_back(values):
    array = np.array(values)
    got, ok = decode_words(encode_values(array))
    assert ok.all()
    np.testing.assert_array_equal(got, array)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(1 << 50), 1 << 50), min_size=2, max_size=6))
def test_a_tag_tells_whether_the_sum_is_in_range(parts):
    words = encode_values(np.array(parts[:1]))
    for part in parts[1:]:
        words = (words + encode_parts(np.array([part]))) & WORD_MASK
    value, ok = decode_words(words)
    total = sum(parts)
    assert ok[0] == (-(1 << 30) <= total < 1 << 30)
    if ok[0]:
        assert value[0] == total


def test_random_words_have_no_zero_tag():
    _, ok = decode_words(random_words(1 << 20))
    assert ok.sum() <= 1


# -------------------------------------------------------------------------------- what is refused


def header(ciphertext, **fields):
    names = ("magic", "version", "terms", "slots", "key")
    values = dict(zip(names, struct.unpack_from("<4sBBH16s", ciphertext), strict=True)) | fields
    return struct.pack("<4sBBH16s", *(values[name] for name in names)) + ciphertext[24:]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c[:-1],
        lambda c: c + b"\0",
        lambda c: b"",
        lambda c: c[:10],
        lambda c: header(c, magic=b"xxxx"),
        lambda c: header(c, version=2),
        lambda c: header(c, terms=0),
        lambda c: header(c, terms=65),
        lambda c: header(c, slots=0),
        lambda c: header(c, slots=4),
        lambda c: header(c, slots=4097),
        lambda c: header(c, key=bytes(16)),
        lambda c: c[:24] + b"\xff" * 8 + c[32:],
        lambda c: c[:-8] + b"\xff" * 8,
        # Three slots take 225 bits: 31 spare ones follow.
        lambda c: c[: 24 + 31] + bytes([c[24 + 31] | 0x80]) + c[24 + 32 :],
    ],
)
def test_a_malformed_ciphertext_is_refused(holder, encryptor, spoil):
    good = encryptor.encrypt(random_words(3))
    bad = spoil(good)
    with pytest.raises(CiphertextError) as caught:
        holder.decrypt(bad)
    assert caught.value.step
    assert caught.value.fix
    with pytest.raises(CiphertextError):
        add_ciphertexts([good, bad], holder.key_id)
    with pytest.raises(CiphertextError):
        add_ciphertexts([bad, good], holder.key_id)


def test_another_key_is_refused(holder, encryptor):
    other = ScoreKeyHolder.generate()
    foreign = ScoreEncryptor(other.public).encrypt(random_words(3))
    with pytest.raises(CiphertextError, match="another key"):
        holder.decrypt(foreign)
    with pytest.raises(CiphertextError, match="another key"):
        add_ciphertexts([encryptor.encrypt(random_words(3)), foreign])
    with pytest.raises(CiphertextError, match="another key"):
        add_ciphertexts([foreign], holder.key_id)
    with pytest.raises(CiphertextError, match="another key"):
        ciphertext_slots(foreign, holder.key_id)


def test_different_slots_do_not_add(encryptor):
    with pytest.raises(CiphertextError, match="numbers of slots"):
        add_ciphertexts([encryptor.encrypt(random_words(3)), encryptor.encrypt(random_words(4))])


def test_nothing_does_not_add():
    with pytest.raises(InputError):
        add_ciphertexts([])


@pytest.mark.parametrize(
    "words",
    [
        np.zeros(0, np.uint64),
        np.zeros(4097, np.uint64),
        np.zeros(4, np.int64),
        np.zeros((2, 2), np.uint64),
        np.array([1 << 59], np.uint64),
    ],
)
def test_words_that_do_not_fit_are_refused(encryptor, words):
    with pytest.raises(InputError):
        encryptor.encrypt(words)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda k: b"",
        lambda k: k[:-1],
        lambda k: b"x" + k[1:],
        lambda k: k[:4] + b"\2" + k[5:],
        lambda k: k[:-8] + b"\xff" * 8,
    ],
)
def test_a_malformed_public_key_is_refused(holder, spoil):
    with pytest.raises(KeyMaterialError):
        ScoreEncryptor(spoil(holder.public))


def test_secrets_stay_in_the_holder(holder, encryptor):
    assert holder.key_id.hex() in repr(holder)
    assert encryptor.key_id == holder.key_id
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            copied(holder)


# ---------------------------------------------------------------------------- what noise tells


def test_noise_of_a_sum_does_not_tell_who_added_what(holder, encryptor):
    """The holder of the key sees noise; masked summands leave no trace in it."""
    rng = np.random.default_rng(9)
    total = rng.integers(0, 1 << 31, SLOTS).astype(np.uint64)
    splits = {
        "all at the first": (total, np.zeros(SLOTS, np.uint64)),
        "all at the second": (np.zeros(SLOTS, np.uint64), total),
    }
    runs = 100
    noise = {}
    for name, (one, two) in splits.items():
        rows = []
        for run in range(runs):
            mask = random_words(SLOTS, seed=1000 * len(noise) + run)
            parts = (one + mask) & WORD_MASK, (two - mask) & WORD_MASK
            added = add_ciphertexts([encryptor.encrypt(part) for part in parts])
            assert np.array_equal(holder.decrypt(added), total)
            rows.append(noise_of(holder, added))
        noise[name] = np.array(rows)
    a, b = noise.values()
    assert stats.ks_2samp(a.ravel()[::7], b.ravel()[::7]).pvalue > 1e-6
    # A linear distinguisher, cross-validated: folds of the runs, a mean of every class each.
    assert 0.3 < accuracy(a, b) < 0.7
    # It would find a trace of the summand: half a bit of the noise.
    trace = (splits["all at the first"][0] & np.uint64(255)).astype(np.int64)
    assert accuracy(a + trace, b) > 0.9


def accuracy(a, b, folds=5):
    hits = []
    for fold in range(folds):
        train = np.arange(len(a)) % folds != fold
        direction = a[train].mean(0) - b[train].mean(0)
        middle = direction @ (a[train].mean(0) + b[train].mean(0)) / 2
        hits += [*(a[~train] @ direction > middle), *(b[~train] @ direction <= middle)]
    return np.mean(hits)
