"""The Chase-Miao OPRF: parameters against exact arithmetic, agreement of both sides, refusals."""

import pickle
import secrets
from decimal import Decimal, getcontext
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto.cm20 import Cm20Receiver, Cm20Sender, hash_ids
from fedcredit.crypto.cm20_parameters import Cm20Parameters
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError, ParameterError

KEY = bytes(range(32))
PLACE = b"place key of F.."


def ids(*numbers):
    return [b"id %d" % number for number in numbers]


def exact_failure_bits(n_receiver, n_sender, log_rows, width):
    """-log2(n_S · P[Bin(w, p) < 128]) in 60-digit arithmetic."""
    getcontext().prec = 60
    p = (1 - Decimal(1) / (1 << log_rows)) ** n_receiver
    term, total = (1 - p) ** width, Decimal(0)
    for k in range(128):
        total += term
        term = term * (width - k) / (k + 1) * p / (1 - p)
    return -float(total.ln()) / 0.6931471805599453 - log2(n_sender)


def pair(parameters, left, right, *, threads=2):
    seeds = np.frombuffer(secrets.token_bytes(32 * parameters.width), np.uint8)
    seeds = seeds.reshape(parameters.width, 2, 16)
    choices = np.frombuffer(secrets.token_bytes(parameters.width), np.uint8) & np.uint8(1)
    chosen = np.ascontiguousarray(seeds[np.arange(parameters.width), choices])
    receiver = Cm20Receiver(parameters, hash_ids(KEY, left), PLACE, seeds, threads=threads)
    sender = Cm20Sender(parameters, hash_ids(KEY, right), PLACE, choices, chosen, threads=threads)
    return receiver, sender


def run(parameters, left, right, size=16):
    receiver, sender = pair(parameters, left, right)
    with receiver, sender:
        for first, columns in receiver.corrections():
            sender.absorb(first, columns)
        return receiver.outputs(KEY, size), sender.outputs(KEY, size)


@pytest.mark.parametrize(
    ("n_receiver", "n_sender", "log_rows", "width"),
    [(2**20, 2**20, 20, 621), (10**6, 10**6, 20, 589), (10**5, 10**5, 17, 466), (1, 1, 6, 150)],
)
def test_failure_probability_is_exact(n_receiver, n_sender, log_rows, width):
    parameters = Cm20Parameters(log_rows, width)
    expected = exact_failure_bits(n_receiver, n_sender, log_rows, width)
    assert parameters.failure_bits(n_receiver, n_sender) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((10**6, 10**6), Cm20Parameters(20, 589)),
        ((2**20, 2**20), Cm20Parameters(20, 621)),
        ((10**5, 10**5), Cm20Parameters(17, 466)),
    ],
)
def test_chosen_parameters(sizes, expected):
    assert Cm20Parameters.choose(*sizes) == expected


@given(st.integers(1, 1 << 24), st.integers(1, 1 << 24))
def test_chosen_parameters_are_secure_and_minimal(n_receiver, n_sender):
    parameters = Cm20Parameters.choose(n_receiver, n_sender)
    parameters.check(n_receiver, n_sender)
    one_less = Cm20Parameters(parameters.log_rows, parameters.width - 1)
    assert one_less.failure_bits(n_receiver, n_sender) < 40.001
    columns = [c for b in range(parameters.n_blocks) for c in parameters.block_columns(b)]
    assert columns == list(range(parameters.width))
    assert [b for group in parameters.groups() for b in group] == list(range(parameters.n_blocks))


def test_weak_or_impossible_parameters_are_refused():
    with pytest.raises(ParameterError, match="too small"):
        Cm20Parameters(20, 588).check(10**6, 10**6)
    for log_rows, width in [(5, 200), (29, 200), (20, 127), (20, 5000)]:
        with pytest.raises(ParameterError):
            Cm20Parameters(log_rows, width)
    for sizes in [(0, 5), (5, 0), (1 << 40, 5)]:
        with pytest.raises(ParameterError):
            Cm20Parameters.choose(*sizes)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60), min_size=1))
def test_outputs_agree_exactly_on_common_ids(left, right):
    left, right = sorted(left), sorted(right, reverse=True)
    parameters = Cm20Parameters.choose(len(left), len(right))
    ours, theirs = run(parameters, ids(*left), ids(*right))
    ours = {row.tobytes(): number for row, number in zip(ours, left, strict=True)}
    theirs = {row.tobytes(): number for row, number in zip(theirs, right, strict=True)}
    met = ours.keys() & theirs.keys()
    assert {ours[tag] for tag in met} == {theirs[tag] for tag in met} == set(left) & set(right)


# One case per layout of an AES block (columns per half: 4, 3, 2), and more than one tile of ids.
@pytest.mark.parametrize(
    ("log_rows", "width", "n"),
    [(10, 700, 900), (17, 200, 400), (21, 150, 300), (22, 141, 300), (17, 250, 40_000)],
)
def test_every_block_layout(log_rows, width, n):
    parameters = Cm20Parameters(log_rows, width)
    ours, theirs = run(parameters, ids(*range(n)), ids(*range(n // 2, n + n // 2)))
    met = {row.tobytes() for row in ours} & {row.tobytes() for row in theirs}
    assert met == {row.tobytes() for row in theirs[: n - n // 2]}


def test_corrections_do_not_depend_on_threads_or_order_of_ids():
    parameters = Cm20Parameters(12, 300)
    seeds = np.arange(300 * 32, dtype=np.uint64).astype(np.uint8).reshape(300, 2, 16)
    hashes = hash_ids(KEY, ids(*range(500)))
    made = []
    for threads, order in [(1, slice(None)), (3, slice(None, None, -1))]:
        with Cm20Receiver(parameters, hashes[order], PLACE, seeds, threads=threads) as receiver:
            made.append(np.concatenate([columns for _, columns in receiver.corrections()]))
    np.testing.assert_array_equal(*made)


def test_corrections_are_balanced_bits():
    """Δ is masked by two random streams: the share of ones is 1/2 to 6 standard errors."""
    parameters = Cm20Parameters.choose(1000, 1000)
    receiver, sender = pair(parameters, ids(*range(1000)), ids(1))
    with receiver, sender:
        columns = np.concatenate([columns for _, columns in receiver.corrections()])
    n = columns.size * 64
    assert abs(np.bitwise_count(columns).sum() - n / 2) < 6 * (n / 4) ** 0.5


def test_hash_of_an_id_depends_on_the_key():
    one, other = hash_ids(KEY, ids(1)), hash_ids(KEY[::-1], ids(1))
    assert one.shape == (1, 2)
    assert not np.array_equal(one, other)
    with pytest.raises(KeyMaterialError):
        hash_ids(b"short", ids(1))


def test_wrong_columns_are_refused():
    parameters = Cm20Parameters(18, 200)  # several groups
    receiver, sender = pair(parameters, ids(1, 2), ids(2, 3))
    with receiver, sender:
        groups = list(receiver.corrections())
        assert len(groups) > 1
        with pytest.raises(CiphertextError, match="missing"):
            sender.outputs(KEY, 16)
        with pytest.raises(CiphertextError, match="place or shape"):
            sender.absorb(*groups[1])
    for spoil in (lambda c: c[:-1], lambda c: c[:, :-1], lambda c: c.astype(np.int64)):
        receiver, sender = pair(parameters, ids(1, 2), ids(2, 3))
        with receiver, sender, pytest.raises(CiphertextError, match="place or shape"):
            sender.absorb(0, spoil(groups[0][1]))
    receiver, sender = pair(parameters, ids(1, 2), ids(2, 3))
    with receiver, sender:
        for group in receiver.corrections():
            sender.absorb(*group)
        with pytest.raises(CiphertextError, match="more OPRF columns"):
            sender.absorb(*groups[0])


def test_wrong_key_material_is_refused():
    parameters = Cm20Parameters(6, 200)
    hashes = hash_ids(KEY, ids(1))
    seeds = np.zeros((200, 2, 16), np.uint8)
    bits = np.zeros(200, np.uint8)
    with pytest.raises(KeyMaterialError):
        Cm20Receiver(parameters, hashes, PLACE, seeds[:-1])
    with pytest.raises(KeyMaterialError):
        Cm20Receiver(parameters, hashes, b"short", seeds)
    with pytest.raises(InputError):
        Cm20Receiver(parameters, hashes.astype(np.int64), PLACE, seeds)
    with pytest.raises(KeyMaterialError):
        Cm20Sender(parameters, hashes, PLACE, bits[:-1], seeds[:, 0])
    with pytest.raises(KeyMaterialError):
        Cm20Sender(parameters, hashes, PLACE, bits + np.uint8(2), seeds[:, 0])
    with pytest.raises(KeyMaterialError):
        Cm20Sender(parameters, hashes, PLACE, bits, seeds)


def test_state_shows_and_pickles_nothing():
    receiver, sender = pair(Cm20Parameters(6, 200), ids(1), ids(1))
    with receiver, sender:
        assert repr(sender) == "Cm20Sender(Cm20Parameters(log_rows=6, width=200), n=1)"
        for side in (receiver, sender):
            with pytest.raises(KeyMaterialError):
                pickle.dumps(side)
