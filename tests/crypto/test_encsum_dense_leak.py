"""The key holder's attack on the noise of inner products, with and without flooding.

The holder knows its secret key, every value and the noise it put into every ciphertext.  The noise
of an answer is the inner product of that noise with the weights (and of what it takes to
re-randomise), so the holder can test any guess of the weights against it.  The attacker here even
sees the sums before the modulus is switched, which reveals no less than the answers do.
"""

import dataclasses

import numpy as np

from fedcredit.crypto.encsum_dense import DenseAccumulator
from fedcredit.crypto.encsum_keyholder import SumKeyHolder
from fedcredit.crypto.encsum_packing import PackingKeys
from fedcredit.crypto.encsum_profile import SumProfile

BLOCK = 8192


class Attacker:
    """A key holder that reads the noise of answers before the modulus is switched."""

    def __init__(self, profile):
        self.profile, self.holder = profile, SumKeyHolder(profile)
        self.tables = PackingKeys.of(self.holder.public_keys()).tables
        self.primes = [int(p) for p in profile.context.primes[:-1]]
        self.modulus = int(np.prod(np.array(self.primes, object)))
        # SEAL itself decrypts Q/t at c1 to the secret key.
        probe = np.zeros((2, len(self.primes), BLOCK), np.uint64)
        probe[1, :, 0] = [(self.modulus >> profile.plain_bits) % p for p in self.primes]
        secret = self.holder._centred(self.holder._keys.decrypt(probe))
        assert set(np.unique(secret)) == {-1, 0, 1}
        lifted = np.stack([secret % p for p in self.primes]).astype(np.uint32)
        self.secret = self.tables.transform(lifted).astype(np.uint64)

    def noise(self, c0, c1, at, messages):
        """Give the noise of the coefficients ``at`` of a transformed ciphertext."""
        moduli = np.array(self.primes, np.uint64)[:, None]
        phase = self.tables.restore(((c0 + c1 * self.secret) % moduli).astype(np.uint32))[:, at]
        total = np.zeros(len(messages), object)
        for row, p in zip(phase, self.primes, strict=True):
            other = self.modulus // p
            total = total + row.astype(object) * (other * pow(other, -1, p))
        # The message stands at Q m / t, so t times the noise is a whole number modulo Q t.
        plain = 1 << self.profile.plain_bits
        total = (total * plain - messages.astype(object) * self.modulus) % (self.modulus * plain)
        wrapped = np.where(2 * total > self.modulus * plain, total - self.modulus * plain, total)
        return (wrapped / plain).astype(float)

    def fresh_noise(self, chunk, values):
        """Give the noise that row j of a block of N brings in, for every j."""
        words = np.frombuffer(chunk.c0[0].tobytes(), "<u8")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(-1, 31)
        residues = (bits.astype(np.uint64) << np.arange(31, dtype=np.uint64)).sum(axis=1)
        residues = residues.reshape(len(self.primes), BLOCK)
        pair = self.profile.context.expand(chunk.seeds[0].tobytes(), residues)
        c0, c1 = (self.tables.transform(x.astype(np.uint32)).astype(np.uint64) for x in pair)
        # Row j stands at -X^(j + 1), the last one at 1.
        messages, sign = np.roll(values, 1), np.where(np.arange(BLOCK) == 0, 1, -1)
        return np.roll(sign * self.noise(c0, c1, np.arange(BLOCK), sign * messages), -1)


def test_the_flood_is_what_hides_the_weights():
    """The key holder tells which of two columns was used from the noise of a single number."""
    profile = dataclasses.replace(
        SumProfile.dense(BLOCK, n_vectors=1, value_bits=12, weight_bits=14), packed_answers=False
    )
    attacker = Attacker(profile)
    keys, rng = attacker.holder.public_keys(), np.random.default_rng(1)
    columns = np.rint(rng.normal(size=(2, BLOCK)) * 1500)
    makers = {
        "bare": DenseAccumulator._without_flood_for_attack_test,
        "flooded": DenseAccumulator,
    }
    passes, ones = 64, np.ones((1, BLOCK))
    right = dict.fromkeys(makers, 0)
    for i in range(passes):
        values = rng.integers(-2047, 2048, (1, BLOCK))
        (chunk,) = attacker.holder.encrypt(values)
        fresh = attacker.fresh_noise(chunk, values[0])
        assert np.abs(fresh).max() <= 22
        used = int(rng.integers(2))
        message = (columns[used].astype(np.int64) * values[0]).sum(keepdims=True)
        for name, make in makers.items():
            accumulator = make(profile, keys, columns[used][None], ones, masked=False)
            accumulator.add(chunk)
            c0, c1 = accumulator._hidden(0, i.to_bytes(32, "little"))
            c0, c1 = c0[:-1].astype(np.uint64), c1.astype(np.uint64)
            got = attacker.noise(c0, c1, np.array([0]), message)
            first, second = columns @ fresh
            nearer = int((got[0] - (first + second) / 2) * (second - first) > 0)
            right[name] += int(nearer == used)
    assert right["bare"] >= passes - 3
    assert 8 <= right["flooded"] <= 56  # half, six standard deviations
