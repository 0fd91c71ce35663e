import pickle

import numpy as np
import pytest

from fedcredit.crypto import seal_io
from fedcredit.crypto.seal import SealContext
from fedcredit.errors import CiphertextError, KeyMaterialError, ParameterError

BITS = (31, 31, 31, 16)
PLAIN = 1 << 42


@pytest.fixture(params=["in place", "serialised"])
def access(request, monkeypatch):
    """Run a test with residues read in place and with SEAL's own serialisation."""
    if request.param == "serialised":
        monkeypatch.setattr(seal_io, "views_work", lambda: False)
    elif not seal_io.views_work():
        pytest.skip("residues cannot be read in place with this interpreter and SEAL build")
    return request.param


@pytest.fixture(scope="module")
def context():
    return SealContext.of(4096, BITS, PLAIN)


@pytest.fixture(scope="module")
def keys(context):
    return context.new_keys()


def plaintext(seed=0):
    return np.random.default_rng(seed).integers(0, PLAIN, 4096, dtype=np.uint64)


def test_encrypt_expand_decrypt(access, context, keys):
    plain = plaintext()
    token, c0 = keys.encrypt(plain)
    full = context.expand(token, c0)
    assert full.shape == (2, 3, 4096)
    assert np.array_equal(full[0], c0)
    assert np.array_equal(keys.decrypt(full), plain)
    assert keys.noise_budget(full) > 40


def test_encryption_is_fresh(access, keys):
    plain = plaintext()
    (token, c0), (other_token, other_c0) = keys.encrypt(plain), keys.encrypt(plain)
    assert token != other_token
    assert np.mean(c0 == other_c0) < 0.01


def test_previous_plaintext_leaves_no_trace(access, context, keys):
    keys.encrypt(plaintext())
    token, c0 = keys.encrypt(np.zeros(4096, np.uint64))
    assert not keys.decrypt(context.expand(token, c0)).any()


def test_other_key_reads_noise(context, keys):
    plain = plaintext()
    stranger = context.new_keys()
    assert not np.array_equal(stranger.decrypt(context.expand(*keys.encrypt(plain))), plain)


def test_both_ways_read_the_same_keys(context, keys, monkeypatch):
    if not seal_io.views_work():
        pytest.skip("residues cannot be read in place with this interpreter and SEAL build")
    galois = keys.galois_keys([3, 4097])
    here = context.load_galois_keys(galois, [4097, 3])
    monkeypatch.setattr(seal_io, "views_work", lambda: False)
    there = context.load_galois_keys(galois, [4097, 3])
    assert here.shape == (2, 3, 2, 4, 4096)
    assert np.array_equal(here, there)
    assert np.all(here < np.array(context.primes, np.uint64)[:, None])


def test_path_fallback_without_anonymous_memory(context, keys, monkeypatch):
    monkeypatch.delattr(seal_io.os, "memfd_create")
    assert context.load_galois_keys(keys.galois_keys([3]), [3]).shape == (1, 3, 2, 4, 4096)


def test_missing_galois_key(context, keys):
    with pytest.raises(KeyMaterialError, match="missing"):
        context.load_galois_keys(keys.galois_keys([3]), [5])


@pytest.mark.parametrize("cut", [0, 10, 1000, -1])
def test_truncated_keys(context, keys, cut):
    with pytest.raises(KeyMaterialError):
        context.load_galois_keys(keys.galois_keys([3])[:cut], [3])


def test_keys_of_other_parameters(context):
    other = SealContext.of(4096, BITS, 1 << 20).new_keys()
    with pytest.raises(KeyMaterialError):
        context.load_galois_keys(other.galois_keys([3]), [3])


def test_residue_out_of_range(context):
    c0 = np.zeros((3, 4096), np.uint64)
    c0[1, 7] = context.primes[1]
    with pytest.raises(CiphertextError):
        context.expand(bytes(64), c0)


def test_unexpected_layout_is_refused():
    with pytest.raises(CiphertextError, match="layout"):
        seal_io._view_ciphertext(seal_io.sealapi.Ciphertext())


def test_parameters_below_128_bits():
    with pytest.raises(ParameterError, match="128-bit"):
        SealContext.of(4096, (31, 31, 31, 31), PLAIN)
    with pytest.raises(ParameterError, match="128-bit"):
        SealContext.of(2048, (31, 16), PLAIN)
    with pytest.raises(ParameterError):
        SealContext.of(4096, BITS, 1)


def test_secret_key_stays_inside(keys):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(keys)
    assert repr(keys) == "<SealKeys degree=4096>"
