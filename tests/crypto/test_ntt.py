import numpy as np
import pytest

from fedcredit.crypto.ntt import LANES, RingTables, shoup, smallest_root
from fedcredit.errors import ParameterError

# The three 31-bit primes of SEAL's table at degree 4096 and its 16-bit special prime.
PRIMES = (2147295233, 2147352577, 2147377153, 40961)


def residues(degree, primes, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, p, degree, dtype=np.uint32) for p in primes])


@pytest.mark.parametrize("degree", [256, 1024, 4096])
def test_transform_and_back(degree):
    tables = RingTables.of(degree, PRIMES)
    a = residues(degree, PRIMES)
    values = tables.transform(a)
    assert not np.array_equal(values, a)
    assert np.all(values < np.array(PRIMES)[:, None])
    assert np.array_equal(tables.restore(values), a)


def test_extreme_residues():
    tables = RingTables.of(4096, PRIMES)
    a = np.repeat(np.array(PRIMES, np.uint32)[:, None] - 1, 4096, axis=1)
    assert np.array_equal(tables.restore(tables.transform(a)), a)


def test_values_are_evaluations_at_the_stated_points():
    degree = 256
    tables = RingTables.of(degree, PRIMES)
    a = residues(degree, PRIMES, 1)
    values = tables.transform(a)
    for i, p in enumerate(PRIMES):
        for position in (0, 1, LANES, 100, degree - 1):
            x = int(tables.powers[i][tables.exponents[position]])
            expected = 0
            for c in a[i][::-1]:
                expected = (expected * x + int(c)) % p
            assert int(values[i, position]) == expected


def test_pointwise_product_is_negacyclic_product():
    degree = 256
    p = PRIMES[0]
    tables = RingTables.of(degree, (p,))
    a, b = residues(degree, (p,), 2), residues(degree, (p,), 3)
    full = np.zeros(2 * degree, object)
    for i in range(degree):
        full[i : i + degree] += int(a[0, i]) * b[0].astype(object)
    expected = (full[:degree] - full[degree:]) % p
    product = tables.transform(a).astype(np.uint64) * tables.transform(b) % np.uint64(p)
    assert np.array_equal(tables.restore(product.astype(np.uint32))[0], expected.astype(np.uint32))


@pytest.mark.parametrize("element", [3, 257, 513])
def test_automorphism_permutes_values(element):
    degree = 256
    p = PRIMES[1]
    tables = RingTables.of(degree, (p,))
    a = residues(degree, (p,), 4)
    turned = np.zeros_like(a)
    for i in range(degree):
        k = i * element % (2 * degree)
        turned[0, k % degree] = a[0, i] if k < degree else (p - int(a[0, i])) % p
    gathered = tables.transform(a)[:, tables.automorphism(element)]
    assert np.array_equal(tables.transform(turned), gathered)


def test_orders_are_permutations():
    tables = RingTables.of(1024, PRIMES[:1])
    assert sorted(tables.seal_order()) == list(range(1024))
    assert sorted(tables.exponents) == list(range(1, 2048, 2))
    assert np.array_equal(tables.position[tables.exponents], np.arange(1024))


def test_smallest_root():
    p, degree = PRIMES[3], 256
    root = smallest_root(degree, p)
    roots = [r for r in range(1, p) if pow(r, degree, p) == p - 1]
    assert root == min(roots)
    assert len(roots) == degree


def test_shoup_quotients():
    p = PRIMES[2]
    w = residues(100, (p,), 5)[0]
    assert [int(q) for q in shoup(w, p)] == [(int(x) << 32) // p for x in w]


def test_unsuitable_primes():
    with pytest.raises(ParameterError, match="root of unity"):
        RingTables.of(4096, (2147483647,))
    with pytest.raises(ParameterError, match=r"2\^31"):
        RingTables.of(4096, (4295294977,))
