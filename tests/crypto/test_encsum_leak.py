"""The key holder's attack on the noise of returned sums, with and without flooding.

The holder knows its secret key, every value and the noise it put into every ciphertext.  The noise
of a returned bin sum is the sum of the noise of the samples in that bin (and of what it takes to
re-randomise), so correlating the two over many passes tells the bin of every sample.  The attacker
here even sees the sums before the modulus is switched, which reveals no less than the answers do.
"""

import numpy as np
import pytest

from fedcredit.crypto.encsum_keyholder import SumKeyHolder
from fedcredit.crypto.encsum_packing import PackingKeys
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.encsum_provider import MaskPlan, SumAccumulator

PASSES = 900
BINS = 16
PROFILE = SumProfile(4096, 3, 37, 256, 54, 47, False, 256)


class Attacker:
    """A key holder that reads the noise of everything."""

    def __init__(self):
        self.holder = SumKeyHolder(PROFILE)
        self.tables = PackingKeys.of(self.holder.public_keys()).tables
        self.primes = [int(p) for p in PROFILE.context.primes[:-1]]
        self.moduli = np.array(self.primes, np.uint64)[:, None]
        self.modulus = int(np.prod(np.array(self.primes, object)))
        # SEAL itself decrypts Q/t at c1 to the secret key.
        probe = np.zeros((2, 3, 4096), np.uint64)
        probe[1, :, 0] = [(self.modulus >> PROFILE.plain_bits) % p for p in self.primes]
        secret = self.holder._centred(self.holder._keys.decrypt(probe))
        assert set(np.unique(secret)) == {-1, 0, 1}
        lifted = np.zeros((4, 4096), np.uint32)
        lifted[:3] = [secret % p for p in self.primes]
        self.secret = self.tables.transform(lifted)[:3].astype(np.uint64)

    def noise(self, c0, c1, positions, messages):
        """Give the centred noise of some coefficients of a transformed ciphertext."""
        values = np.zeros((4, 4096), np.uint32)
        values[:3] = (c0 + c1 * self.secret) % self.moduli
        phase = self.tables.restore(values)[:3, positions]
        half = 1 << (PROFILE.plain_bits - 1)
        scaled = (messages.astype(object) * self.modulus + half) >> PROFILE.plain_bits
        total = -scaled
        for row, p in zip(phase, self.primes, strict=True):
            total = total + row.astype(object) * (self.modulus // p * pow(self.modulus // p, -1, p))
        total %= self.modulus
        return np.where(total > self.modulus // 2, total - self.modulus, total).astype(float)

    def fresh_noise(self, c0, c1, messages):
        """Give the noise of all coefficients, small enough to be read modulo one prime."""
        p = self.primes[0]
        values = np.zeros((4, 4096), np.uint32)
        values[0] = (c0[0] + c1[0] * self.secret[0]) % np.uint64(p)
        half = 1 << (PROFILE.plain_bits - 1)
        remainder = self.modulus % (1 << PROFILE.plain_bits)
        # round(Q m / t) = m floor(Q / t) + round(m (Q mod t) / t); |m| < 2^17, so in two steps.
        low = messages * (remainder & 0x1FFFFF)
        high = messages * (remainder >> 21)
        rounded = (high + (low + (half & 0x1FFFFF) >> 21) + (half >> 21)) >> 16
        scaled = messages * (self.modulus // (1 << PROFILE.plain_bits) % p) + rounded
        noise = (self.tables.restore(values)[0].astype(np.int64) - scaled) % p
        return np.where(noise > p // 2, noise - p, noise).astype(float)


def test_the_flood_is_what_hides_the_bins():
    attacker = Attacker()
    holder, keys, block = attacker.holder, attacker.holder.public_keys(), PROFILE.block
    rng = np.random.default_rng(0)
    bins = rng.integers(0, BINS, block).astype(np.uint8)
    plan = MaskPlan(bins[None], [BINS], PROFILE)
    sample, k, b = np.ogrid[:block, :BINS, :BINS]
    # A sample of bin b adds its noise, turned by (k - b) B - (B - 1) + j, to coefficient k B.
    at = ((k - b) * block - (block - 1) + sample) % 8192
    sign = np.where(at < 4096, 1.0, -1.0)
    kept = np.arange(BINS) * block
    scores = {"bare": np.zeros((block, BINS)), "flooded": np.zeros((block, BINS))}
    makers = {
        "bare": SumAccumulator._without_flood_for_attack_test,
        "flooded": SumAccumulator,
    }
    order = np.empty(4096, np.int64)
    row = np.arange(block)
    for i in range(PASSES):
        values = rng.integers(-65535, 65536, block)
        (chunk,) = holder.encrypt(values[None])
        sums = np.zeros(BINS, np.int64)
        np.add.at(sums, bins, values)
        message = np.zeros(4096, np.int64)
        message[(row - block + 1) % 4096] = np.where(row == block - 1, values, -values)
        for name, make in makers.items():
            accumulator = make(PROFILE, keys, plan, 1)
            accumulator.add(chunk)
            if name == "bare":
                own = accumulator._cipher.reshape(3, 2, block, 16, 16)[..., 0, :]
                own = own.reshape(3, 2, 4096).astype(np.uint64)
                order[accumulator._layout.lanes] = np.arange(4096)
                fresh = attacker.fresh_noise(own[:, 0, order], own[:, 1, order], message)
                assert np.abs(fresh).max() <= 22
                turned = fresh[at % 4096] * sign
            c0, c1 = accumulator._hidden(0, i.to_bytes(32, "little"))
            c0, c1 = c0[:3].astype(np.uint64), c1.astype(np.uint64)
            got = attacker.noise(c0, c1, kept, sums)
            scores[name] += np.einsum("k,skb->sb", got, turned)
    right = {name: float(np.mean(s.argmax(axis=1) == bins)) for name, s in scores.items()}
    # Chance is 1/16 with a standard deviation of 0.015 over 256 samples.
    assert right["bare"] > 0.35
    assert right["flooded"] < 0.14


def test_there_is_no_switch_for_the_flood():
    with pytest.raises(TypeError):
        SumAccumulator(PROFILE, None, None, 1, flood=False)
