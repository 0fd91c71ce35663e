"""L-BFGS by inner products, against L-BFGS by vectors and scipy's."""

import numpy as np
import pytest
from scipy.optimize import minimize

from fedcredit.errors import InputError
from fedcredit.stats.quasi_newton import BlockMemory, direction


def two_loops(gradient, pairs, scale):
    """The textbook's recursion."""
    q, alpha = gradient.copy(), []
    for s, y in reversed(pairs):
        alpha.append((s @ q) / (s @ y))
        q = q - alpha[-1] * y
    r = q * (pairs[-1][0] @ pairs[-1][1] / (pairs[-1][1] @ pairs[-1][1]) if pairs else scale)
    for (s, y), a in zip(pairs, reversed(alpha), strict=True):
        r = r + s * (a - (y @ r) / (s @ y))
    return -r


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_the_direction_is_that_of_the_vectors_however_they_are_cut(count):
    rng = np.random.default_rng(count)
    A = rng.normal(size=(12, 12))
    A = A @ A.T + np.eye(12)
    cuts = [slice(0, 5), slice(5, 6), slice(6, 12)]
    place = rng.normal(size=12)
    memories = [BlockMemory((A @ place)[cut], 5) for cut in cuts]
    pairs = []
    for _ in range(count):
        step = rng.normal(size=12)
        pairs.append((step, A @ step))
        place = place + step
        for memory, cut in zip(memories, cuts, strict=True):
            memory.add(step[cut], (A @ place)[cut])
    products = sum(memory.products() for memory in memories)
    coefficients = direction(products, 0.7)
    found = np.concatenate([memory.combine(coefficients) for memory in memories])
    np.testing.assert_allclose(found, two_loops(A @ place, pairs[-5:], 0.7), rtol=1e-9)


def test_it_minimises_what_scipy_minimises():
    def value(x):
        return np.sum(np.cosh(x - np.arange(6))) + 0.1 * (x.sum() - 3) ** 2

    def gradient(x):
        return np.sinh(x - np.arange(6)) + 0.2 * (x.sum() - 3)

    x = np.zeros(6)
    memory = BlockMemory(gradient(x), 6)
    for _ in range(80):
        step = memory.combine(direction(memory.products(), 0.5))
        step *= min(1.0, 1.0 / np.linalg.norm(step))
        x = x + step
        memory.add(step, gradient(x))
    expected = minimize(value, np.zeros(6), jac=gradient, method="L-BFGS-B", tol=1e-12).x
    np.testing.assert_allclose(x, expected, atol=1e-4)
    assert np.linalg.norm(gradient(x)) < 1e-8


def test_pairs_without_curvature_are_passed_over():
    memory = BlockMemory(np.array([1.0, 2.0]), 3)
    memory.add(np.array([1.0, 0.0]), np.array([0.0, 2.0]))  # the gradient fell along the step
    np.testing.assert_allclose(
        memory.combine(direction(memory.products(), 0.5)), -0.5 * memory.gradient
    )


def test_a_better_gradient_of_the_same_place_makes_no_pair():
    memory = BlockMemory(np.ones(2), 3)
    memory.replace(np.zeros(2))
    assert memory.pairs == 0
    assert not memory.gradient.any()


def test_coefficients_and_matrices_that_do_not_fit_are_refused():
    memory = BlockMemory(np.ones(2), 3)
    for wrong in ([], [1.0, 2.0], [np.nan]):
        with pytest.raises(InputError, match="do not fit"):
            memory.combine(wrong)
    for matrix in (np.eye(2), np.full((3, 3), np.nan), np.ones((3, 1))):
        with pytest.raises(InputError, match="malformed"):
            direction(matrix, 1.0)
