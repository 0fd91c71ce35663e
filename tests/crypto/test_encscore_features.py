"""Products of encrypted features with hidden weights: exact, blinded, flooded."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from fedcredit.crypto import encscore_features as module
from fedcredit.crypto.encscore import WORD_MASK
from fedcredit.crypto.encscore_features import OwnFeatureHolder, OwnFeatureScorer
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError
from tests.support.scoring import phase_of, secret_of

HEAD = 26


@pytest.fixture(scope="module")
def holder():
    return OwnFeatureHolder.generate()


@pytest.fixture(scope="module")
def scorer(holder):
    return OwnFeatureScorer(holder.public)


def exact(features, weights):
    return (features.astype(np.uint64) * weights.astype(np.uint64)).sum(1, dtype=np.uint64)


@pytest.mark.parametrize(
    ("n", "count"), [(1, 1), (1, 60), (300, 60), (9, 1024), (137, 60), (20, 1000)]
)
def test_products_are_exact(holder, scorer, n, count):
    rng = np.random.default_rng(n + count)
    features = rng.integers(-(1 << 20), 1 << 20, (n, count))
    weights = rng.integers(-(1 << 31) + 1, 1 << 31, count)
    answers, blinds = scorer.products(holder.encrypt(features), n, weights)
    got = (holder.decrypt(answers, n, count) - blinds) & WORD_MASK
    np.testing.assert_array_equal(got, exact(features, weights) & WORD_MASK)


def test_points_of_bins(holder, scorer):
    rng = np.random.default_rng(0)
    points = rng.integers(-60, 60, 30)
    bins = rng.integers(0, 10, (50, 3)) + 10 * np.arange(3)
    features = np.zeros((50, 30), np.int64)
    np.put_along_axis(features, bins, 1, axis=1)
    answers, blinds = scorer.products(holder.encrypt(features), 50, points)
    got = (holder.decrypt(answers, 50, 30) - blinds) & WORD_MASK
    np.testing.assert_array_equal(got, points[bins].sum(1).astype(np.uint64) & WORD_MASK)


def test_the_largest_noise_still_decrypts(holder, scorer):
    features = np.full((8, 1024), (1 << 58) - 1)
    weights = np.full(1024, (1 << 31) - 1)
    answers, blinds = scorer.products(holder.encrypt(features), 8, weights)
    got = (holder.decrypt(answers, 8, 1024) - blinds) & WORD_MASK
    np.testing.assert_array_equal(got, exact(features, weights) & WORD_MASK)


def test_what_comes_back_is_uniform(holder, scorer):
    """Before the blind is taken off, a product tells nothing: neither small nor repeated."""
    features = np.ones((4000, 2), np.int64)
    question = holder.encrypt(features)
    answers, blinds = scorer.products(question, 4000, np.array([3, 4]))
    seen = holder.decrypt(answers, 4000, 2)
    assert stats.kstest(seen / 2.0**59, "uniform").pvalue > 1e-6
    again = scorer.products(question, 4000, np.array([3, 4]))[1]
    assert not np.any(again == blinds)


def residues(holder, answer, rows, count):
    words = np.frombuffer(answer[HEAD:], "<u8").astype(np.uint64)
    first = module._words(rows)
    out = np.zeros((2, 5, 8192), np.uint64)
    where = np.arange(rows) * count + count - 1
    out[0][:, where] = module._unpack(words[:first], holder._primes, rows)
    out[1] = module._unpack(words[first:], holder._primes, 8192)
    return out, where


def test_c1_hides_the_weights(holder, scorer):
    """Without the fresh encryption of zero the weights are read off c1; with it they are not."""
    weights = np.arange(1, 33)
    (question,) = holder.encrypt(np.ones((2, 32), np.int64))
    (answer,), _ = scorer.products((question,), 2, weights)
    tables, p = scorer._tables, int(holder._primes[0])
    body = HEAD + 64
    c1 = scorer._expanded(question[HEAD:body], question[body:])[1]
    inverse = np.array([pow(int(x), -1, p) for x in tables.transform(c1)[0]], np.uint64)

    def quotient(product):
        values = tables.transform(product.astype(np.uint32))[0].astype(np.uint64)
        ratio = (values * inverse % np.uint64(p)).astype(np.uint32)
        return tables.restore(np.stack([ratio]))[0][:32]

    bare = np.zeros((5, 8192), np.uint32)
    transformed = scorer._transformed_weights(weights)
    arguments = (tables.primes, tables.forward, tables.inverse, tables.n_inv)
    module._add_product(c1, transformed, *arguments, bare)
    np.testing.assert_array_equal(quotient(bare), weights[::-1])
    found = quotient(residues(holder, answer, 2, 32)[0][1])
    assert not np.any(found == weights[::-1])
    assert (found > 1 << 20).sum() > 25


def flood_of(holder, answer, rows, count):
    """Noise of the coefficients that came back, as a fraction of 2^90; exact integers inside."""
    both, where = residues(holder, answer, rows, count)
    phase = phase_of(holder._keys, both)[:, where]
    primes = [int(p) for p in holder._primes]
    modulus = int(np.prod(primes, dtype=object))
    out = []
    for column in phase.T:
        x = sum(
            int(v) * (modulus // p) * pow(modulus // p, -1, p)
            for v, p in zip(column, primes, strict=True)
        )
        x %= modulus
        word = (x * (1 << 59) + modulus // 2) // modulus
        noise = x - (modulus * word + (1 << 58)) // (1 << 59)
        out.append(noise / 2.0**90)
    return np.array(out)


def test_the_noise_is_the_flood_whatever_the_weights(holder, scorer):
    assert secret_of(holder._keys).shape == (6, 8192)
    count, rows = 8, 1000
    question = holder.encrypt(np.ones((rows, count), np.int64))
    noises = []
    for weights in (np.zeros(count, np.int64), np.full(count, (1 << 31) - 1)):
        answers, _ = scorer.products(question, rows, weights)
        noises.append(flood_of(holder, answers[0], rows, count))
    for noise in noises:
        assert np.abs(noise).max() < 1 + 2.0**-40
        assert stats.kstest(noise, "uniform", args=(-1, 2)).pvalue > 1e-6
    assert stats.ks_2samp(*noises).pvalue > 1e-6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c[:-1],
        lambda c: b"fcfx" + c[4:],
        lambda c: c[:4] + b"\2" + c[5:],
        lambda c: c[:-8] + b"\xff" * 8,
        lambda c: c[:12] + b"\0\0\0\0" + c[16:],
    ],
)
def test_malformed_questions_and_answers_are_refused(holder, scorer, spoil):
    weights = np.arange(5)
    question = holder.encrypt(np.ones((3, 5), np.int64))
    with pytest.raises(CiphertextError):
        scorer.products((spoil(question[0]),), 3, weights)
    answers, _ = scorer.products(question, 3, weights)
    with pytest.raises(CiphertextError):
        holder.decrypt((spoil(answers[0]),), 3, 5)


def test_another_shape_or_key_is_refused(holder, scorer):
    question = holder.encrypt(np.ones((3, 5), np.int64))
    with pytest.raises(CiphertextError):
        scorer.products(question, 4, np.arange(5))
    with pytest.raises(CiphertextError):
        scorer.products(question, 3, np.arange(6))
    with pytest.raises(CiphertextError):
        scorer.products(question * 2, 3, np.arange(5))
    other = OwnFeatureScorer(OwnFeatureHolder.generate().public)
    with pytest.raises(CiphertextError):
        other.products(question, 3, np.arange(5))
    answers, _ = scorer.products(question, 3, np.arange(5))
    with pytest.raises(CiphertextError):
        holder.decrypt(answers * 2, 3, 5)


@pytest.mark.parametrize(
    "weights",
    [np.zeros(0, np.int64), np.zeros(1025, np.int64), np.zeros(3), np.array([1 << 31])],
)
def test_weights_that_do_not_fit_are_refused(holder, scorer, weights):
    question = holder.encrypt(np.ones((1, 3), np.int64))
    with pytest.raises(InputError):
        scorer.products(question, 1, weights)


@pytest.mark.parametrize(("shape", "dtype"), [((3,), "i8"), ((0, 3), "i8"), ((2, 3), "f8")])
def test_features_that_do_not_fit_are_refused(holder, shape, dtype):
    with pytest.raises(InputError):
        holder.encrypt(np.ones(shape, dtype))


@pytest.mark.parametrize(
    "spoil", [lambda k: k[:-1], lambda k: b"x" + k[1:], lambda k: k[:-8] + b"\xff" * 8]
)
def test_a_malformed_key_is_refused(holder, spoil):
    with pytest.raises(KeyMaterialError):
        OwnFeatureScorer(spoil(holder.public))


def test_secrets_stay_in_the_holder(holder):
    assert repr(holder).startswith("<OwnFeatureHolder ")
    for copied in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="secret"):
            copied(holder)
