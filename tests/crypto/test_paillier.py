"""Paillier on batches: checked before decryption, uniform zeros, moduli with a proof."""

import math
import pickle
import random
import secrets

import numpy as np
import phe
import pytest
from gmpy2 import mpz, next_prime

from fedcredit.crypto import paillier
from fedcredit.crypto.paillier import PROOF_ROOTS, PaillierModulus, PaillierSecret, nth_residues
from fedcredit.errors import CiphertextError, KeyMaterialError

BITS = 512


@pytest.fixture(scope="module")
def secret():
    return PaillierSecret(BITS)


def rows(key, numbers):
    data = b"".join(int(x).to_bytes(key.width, "big") for x in numbers)
    return np.frombuffer(data, np.uint8).reshape(len(numbers), key.width)


def factors(secret):
    return secret._private.p, secret._private.q


# --------------------------------------------------------------------------- with phe as oracle


def test_phe_and_the_batches_understand_each_other(secret):
    n = int(secret.modulus.n)
    values = [0, 1, -1, 12345, -(1 << 60), n // 3, *(secrets.randbelow(n) for _ in range(20))]
    ours = secret.encrypt(values)
    assert [secret._private.raw_decrypt(int(c)) for c in ours] == [m % n for m in values]
    theirs = [secret._private.public_key.raw_encrypt(m % n) for m in values]
    assert secret.decrypt(secret.modulus.write(theirs)) == [m % n for m in values]


def test_products_are_sums_and_zeros_change_nothing(secret):
    key = secret.modulus
    a, b = secret.encrypt([40, -2], threads=2)
    (zero,) = key.zeros(1)
    total = a * b * zero * key.plain(4) % key.square
    assert secret.decrypt(key.write([total])) == [42]


def test_encryptions_never_repeat(secret):
    ciphertexts = secret.encrypt([7] * 50, threads=3) + secret.modulus.zeros(50, threads=3)
    assert len(set(map(int, ciphertexts))) == 100


def test_bytes_round_trip(secret):
    key = secret.modulus
    written = key.write(secret.encrypt([1, 2, 3]))
    assert written.shape == (3, BITS // 4)
    np.testing.assert_array_equal(key.write(key.read(written)), written)
    assert key.read(written[:0]) == []


def test_zeros_by_the_factors_are_all_nth_residues_alike():
    """Exhaustive for small primes: every n-th residue is reached by exactly one pair."""
    p, q = 7, 11
    n = p * q
    pairs = [(x, y) for x in range(1, p) for y in range(1, q)]
    x, y = ([mpz(v) for v in column] for column in zip(*pairs, strict=True))
    found = sorted(int(z) for z in nth_residues(x, y, mpz(p), mpz(q)))
    by_definition = {pow(r, n, n * n) for r in range(1, n) if math.gcd(r, n) == 1}
    assert found == sorted(by_definition)
    assert len(by_definition) == (p - 1) * (q - 1)


# ------------------------------------------------------------------- ciphertexts from outside


@pytest.mark.parametrize("multiple", [0, 1, 7])
def test_one_decryption_of_zero_or_n_factors_the_key_of_bare_phe(multiple):
    public, private = phe.generate_paillier_keypair(n_length=BITS)
    answer = private.raw_decrypt(multiple * public.n)
    # 1 / (p + q) modulo n; with the product and the sum p and q are roots of a quadratic.
    total = pow(answer, -1, public.n)
    root = math.isqrt(total * total - 4 * public.n)
    p, q = (total + root) // 2, (total - root) // 2
    assert p * q == public.n
    assert {p, q} == {private.p, private.q}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "name", ["zero", "n", "7 n", "p", "multiple of q", "square", "above", "all ones"]
)
def test_what_is_no_unit_is_never_decrypted(secret, monkeypatch, name, place):
    key = secret.modulus
    p, q = factors(secret)
    bad = {
        "zero": 0,
        "n": key.n,
        "7 n": 7 * key.n,
        "p": p,
        "multiple of q": q * q * 12345,
        "square": key.square,
        "above": key.square + 1,
        "all ones": (1 << 8 * key.width) - 1,
    }[name]
    numbers = secret.encrypt([1, 2, 3])
    numbers[place] = bad

    def forbidden(_):
        raise AssertionError("decrypted")

    monkeypatch.setattr(secret._private, "raw_decrypt", forbidden)
    with pytest.raises(CiphertextError):
        secret.decrypt(rows(key, numbers))
    with pytest.raises(CiphertextError):
        key.read(rows(key, numbers))


@pytest.mark.parametrize("change", ["type", "width", "one dimension", "no array"])
def test_bytes_of_another_shape_are_refused(secret, change):
    good = secret.modulus.write(secret.encrypt([1]))
    bad = {
        "type": good.astype(np.int64),
        "width": good[:, 1:],
        "one dimension": good[0],
        "no array": good.tolist(),
    }[change]
    with pytest.raises(CiphertextError):
        secret.modulus.read(bad)


# --------------------------------------------------------------------------- moduli and proofs


def test_honest_moduli_are_proven(secret):
    key = PaillierModulus.proven(secret.proof(), BITS)
    assert key.n == secret.modulus.n


def prime(bits, seed):
    """A prime with its two highest bits set, so that products have full length."""
    x = random.Random(seed).getrandbits(bits) | 3 << (bits - 2)
    return int(next_prime(x))


def leaky_modulus():
    """Primes whose product has 512 bits, the first a divisor of the second less one."""
    p = prime(200, 1)
    k = (7 << 308) // p
    while not mpz(2 * k * p + 1).is_prime():
        k += 1
    return p, 2 * k * p + 1


def best_roots(p, q):
    """n-th roots of the challenges as far as there are any, else anything."""
    n = p * q
    lam = (p - 1) * (q - 1)
    while (common := math.gcd(lam, n)) > 1:
        lam //= common
    root = pow(n, -1, lam)
    return [pow(int(c), root, n) for c in paillier._challenges(n)]


def as_proof(n, roots):
    return b"".join(int(x).to_bytes(BITS // 8, "big") for x in (n, *roots))


def test_a_modulus_that_would_leak_is_refused():
    """Under it a mark of the key's owner survives the re-randomisation, whatever r is."""
    p, q = leaky_modulus()
    assert math.gcd(p * q, (p - 1) * (q - 1)) == p
    key = PaillierModulus(p * q)
    mark = mpz(3)
    seen = {int(pow(mark * zero % key.square, (q - 1) // p, q)) for zero in key.zeros(20)}
    assert seen == {pow(3, (q - 1) // p, q)}
    assert seen != {1}
    with pytest.raises(KeyMaterialError, match="proof"):
        PaillierModulus.proven(as_proof(p * q, best_roots(p, q)), BITS)


def test_the_same_way_of_taking_roots_proves_a_good_modulus():
    p, q = prime(256, 2), prime(256, 3)
    data = as_proof(p * q, best_roots(p, q))
    assert PaillierModulus.proven(data, BITS).n == p * q


def test_moduli_with_small_factors_or_of_another_size_are_refused(secret):
    small = 6367  # the largest prime below 6370
    p = prime(BITS - 13, 4)
    assert (p * small).bit_length() == BITS
    with pytest.raises(KeyMaterialError, match="proof"):
        PaillierModulus.proven(as_proof(p * small, best_roots(small, p)), BITS)
    short = PaillierSecret(BITS - 16).proof()
    padded = b"".join(
        bytes(2) + short[i : i + BITS // 8 - 2] for i in range(0, len(short), BITS // 8 - 2)
    )
    for data in (b"", secret.proof()[:-1], secret.proof() + b"\0", short, padded):
        with pytest.raises(KeyMaterialError, match="size"):
            PaillierModulus.proven(data, BITS)


@pytest.mark.parametrize("root", range(PROOF_ROOTS))
def test_every_root_counts(secret, root):
    data = bytearray(secret.proof())
    data[(2 + root) * BITS // 8 - 1] ^= 1
    with pytest.raises(KeyMaterialError, match="proof"):
        PaillierModulus.proven(bytes(data), BITS)


def test_roots_are_reduced(secret):
    """Else one key had many encodings."""
    n = int(secret.modulus.n)
    data = secret.proof()
    size = BITS // 8
    roots = [int.from_bytes(data[i : i + size], "big") for i in range(size, len(data), size)]
    for i, root in enumerate(roots):
        if root + n < 1 << BITS:
            roots[i] += n
    assert any(root >= n for root in roots)
    with pytest.raises(KeyMaterialError, match="proof"):
        PaillierModulus.proven(as_proof(n, roots), BITS)


# ------------------------------------------------------------------------------------- secrets


def test_the_secret_key_is_not_shown_or_pickled(secret):
    p, q = factors(secret)
    for text in (repr(secret), str(secret), f"{secret}"):
        assert str(p) not in text
        assert str(q) not in text
        assert hex(p)[2:] not in text
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(secret)
