import numpy as np
import pytest

from fedcredit.crypto.encsum_answers import _truncate
from fedcredit.crypto.encsum_bits import (
    count_out_of_range,
    crt_factors,
    pack_bits,
    raise_modulus,
    switch_modulus,
    unpack_bits,
)
from fedcredit.crypto.encsum_keyholder import SumKeyHolder
from fedcredit.crypto.encsum_packing import (
    PackingKeys,
    sample_error,
    sample_ternary,
)
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.encsum_provider import MaskPlan, SumAccumulator


@pytest.mark.parametrize("width", [1, 31, 47, 52, 62, 63])
@pytest.mark.parametrize("n", [1, 64, 100])
def test_bit_packing(width, n):
    values = np.random.default_rng(width).integers(0, 1 << width, n, dtype=np.uint64)
    values[0] = (1 << width) - 1
    words = np.empty(-(-n * width // 64), np.uint64)
    pack_bits(values, width, words)
    as_integer = sum(int(v) << (width * i) for i, v in enumerate(values))
    assert int.from_bytes(words.astype("<u8").tobytes(), "little") == as_integer
    back = np.empty(n, np.uint64)
    unpack_bits(words, width, back)
    assert np.array_equal(back, values)


def test_counting_out_of_range():
    primes = np.array([101, 97], np.uint64)
    values = np.array([100, 101, 0, 127, 96, 97, 99, 1], np.uint64)
    words = np.empty(1, np.uint64)
    pack_bits(values, 7, words)
    assert count_out_of_range(words, 7, primes, 4) == 4


def test_ternary_samples():
    rng = np.random.default_rng(0)
    stream = rng.integers(0, 256, 100_000, dtype=np.uint8)
    out = np.empty(99_000, np.int64)
    assert sample_ternary(stream, out)
    kept = stream[stream != 255][: out.size]
    assert np.array_equal(out, kept.astype(np.int64) % 3 - 1)
    counts = np.array([np.sum(out == v) for v in (-1, 0, 1)])
    assert np.all(np.abs(counts - out.size / 3) < 5 * np.sqrt(out.size * 2 / 9))


def test_ternary_samples_run_out():
    assert not sample_ternary(np.full(100, 255, np.uint8), np.empty(1, np.int64))
    assert not sample_ternary(np.zeros(99, np.uint8), np.empty(100, np.int64))


def test_error_samples_are_centred_binomial():
    stream = np.random.default_rng(1).integers(0, 1 << 63, 20_000, dtype=np.uint64)
    out = np.empty(stream.size, np.int64)
    sample_error(stream, out)
    mask = (1 << 21) - 1
    expected = [(int(x) & mask).bit_count() - (int(x) >> 21 & mask).bit_count() for x in stream]
    assert out.tolist() == expected
    assert out.std() == pytest.approx(np.sqrt(21 / 2), rel=0.03)


@pytest.mark.parametrize("bits", [10, 50, 64, 65, 103])
def test_flood_words(bits):
    words = np.full((3, 2), (1 << 64) - 1, np.uint64)
    kept = _truncate(words, bits)
    assert [int(low) | int(high) << 64 for low, high in kept] == [(1 << bits) - 1] * 3


@pytest.mark.parametrize("levels", [3, 4, 6])
@pytest.mark.parametrize("bits", [40, 52, 62])
def test_switching_down_and_up(levels, bits):
    primes = SumProfile(8192, 5, 42, 2048, 100, 52, True).context.primes[:levels]
    modulus = int(np.prod([int(p) for p in primes], dtype=object))
    rng = np.random.default_rng(bits)
    values = [int(x) * modulus // (1 << 30) + 12345 for x in rng.integers(0, 1 << 30, 50)]
    values += [0, 1, modulus - 1, modulus // 2]
    residues = np.array([[v % p for v in values] for p in primes], np.uint32)
    moduli = np.array(primes, np.uint64)
    down = np.empty(len(values), np.uint64)
    switch_modulus(residues, moduli, crt_factors(primes), bits, down)
    exact = [((v << bits + 1) + modulus) // (2 * modulus) % (1 << bits) for v in values]
    off = (np.array([int(d) - e for d, e in zip(down, exact, strict=True)]) + 1) % (1 << bits) - 1
    assert np.all(np.abs(off) <= (1 if bits > 60 else 0))

    up = np.empty((levels, len(values)), np.uint64)
    inverse = np.array([pow(1 << bits, -1, p) for p in primes], np.uint64)
    raise_modulus(down, bits, np.uint64(modulus % (1 << bits)), inverse, moduli, up)
    back = [((int(d) * modulus << 1) + (1 << bits)) >> (bits + 1) for d in down]
    assert [[v % p for v in back] for p in primes] == up.tolist()


def secret_of(holder):
    """Let SEAL decrypt Q/t at c1: the plaintext is the secret key."""
    profile = holder.profile
    primes = profile.context.primes[:-1]
    step = int(np.prod([int(p) for p in primes], dtype=object)) >> profile.plain_bits
    probe = np.zeros((2, len(primes), profile.degree), np.uint64)
    probe[1, :, 0] = [step % p for p in primes]
    return holder._centred(holder._keys.decrypt(probe))


@pytest.mark.parametrize(
    "profile",
    [SumProfile.packed(4000), SumProfile.exact(4000, 256), SumProfile.high_assurance(8000)],
)
def test_noise_of_packing_is_within_the_model(profile):
    """What packing adds, measured without the flood, is what the profile reckons with."""
    holder = SumKeyHolder(profile)
    n = 3 * profile.block
    rng = np.random.default_rng(2)
    plan = MaskPlan(rng.integers(0, 16, (3, n)).astype(np.uint8), [16] * 3, profile)
    keys = holder.public_keys()
    accumulator = SumAccumulator._without_flood_for_attack_test(profile, keys, plan, 1)
    for chunk in holder.encrypt(np.zeros((1, n), np.int64)):
        accumulator.add(chunk)
    c0, c1 = accumulator._pack(range(plan.n_masks), bytes(32))
    tables = PackingKeys.of(keys).tables
    primes = profile.context.primes
    secret = secret_of(holder)
    lifted = np.array([secret % p for p in primes]).astype(np.uint32)
    # Multiply c1 by P to stand beside c0 over Q P; the special residue of P c1 is zero.
    scaled = c1.astype(np.uint64) * np.array([[primes[-1] % p] for p in primes[:-1]], np.uint64)
    c1 = np.zeros_like(c0)
    moduli = np.array(primes, np.uint64)[:, None]
    c1[:-1] = scaled % moduli[:-1]
    product = c1.astype(np.uint64) * tables.transform(lifted) % moduli
    phase = tables.restore(((product + c0) % moduli).astype(np.uint32))
    modulus = int(np.prod([int(p) for p in primes], dtype=object))
    total = np.zeros(profile.degree, object)
    for row, p in zip(phase, primes, strict=True):
        total += row.astype(object) * (modulus // p * pow(modulus // p, -1, p))
    total %= modulus
    noise = np.array([int(x if x < modulus // 2 else x - modulus) for x in total], float)
    noise /= primes[-1]
    # Without flood nothing but the fresh, zero and switching noise is left.
    allowed = profile._noise_bound() - 2.0**profile.flood_bits
    assert 1 < np.abs(noise).max() < allowed
    assert allowed < 2.0 ** (profile.flood_bits)
