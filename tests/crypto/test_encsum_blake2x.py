import hashlib
import struct

import numpy as np
import pytest

from fedcredit.crypto.blake2x import expand_seed, uniform_polynomial
from fedcredit.crypto.encsum_profile import SumProfile

WORD = (1 << 64) - 1
SIGMA = (
    "0123456789abcdef",
    "ea489fd61c02b753",
    "b8c052fdae367194",
    "7931dcbe265a40f8",
    "905724afe1bc683d",
    "2c6a0b834d75fe19",
    "c51fed4a0763928b",
    "db7ec13950f4862a",
    "6fe9b308c2d714a5",
    "a2847615fb9e3cd0",
)
IV = struct.unpack(
    ">8Q",
    bytes.fromhex(
        "6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1"
        "510e527fade682d19b05688c2b3e6c1f1f83d9abfb41bd6b5be0cd19137e2179"
    ),
)


def blake2b(blocks, parameters, length):
    """BLAKE2b (RFC 7693) of padded 128-byte blocks, for any parameter block."""
    h = [x ^ y for x, y in zip(IV, [*parameters, 0, 0, 0, 0, 0], strict=True)]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        m = struct.unpack("<16Q", block)
        v = [*h, *IV]
        v[12] ^= length if last else 128 * (number + 1)
        v[14] ^= WORD if last else 0
        for r in range(12):
            s = [int(c, 16) for c in SIGMA[r % 10]]
            for g in range(8):
                a = g % 4
                b, c, d = (4 * i + (a + (g // 4) * i) % 4 for i in (1, 2, 3))
                for x, turn_d, turn_b in ((s[2 * g], 32, 24), (s[2 * g + 1], 16, 63)):
                    v[a] = (v[a] + v[b] + m[x]) & WORD
                    v[d] ^= v[a]
                    v[d] = (v[d] >> turn_d | v[d] << (64 - turn_d)) & WORD
                    v[c] = (v[c] + v[d]) & WORD
                    v[b] ^= v[c]
                    v[b] = (v[b] >> turn_b | v[b] << (64 - turn_b)) & WORD
        h = [x ^ v[i] ^ v[i + 8] for i, x in enumerate(h)]
    return struct.pack("<8Q", *h)


def keyed(key, message, output_length):
    parameters = [64 | len(key) << 8 | 1 << 16 | 1 << 24, output_length << 32, 0]
    blocks = [key.ljust(128, b"\0"), message.ljust(128, b"\0")]
    return blake2b(blocks, parameters, 128 + len(message))


def blake2xb(key, message, length):
    """BLAKE2Xb for lengths that are multiples of 64."""
    root = keyed(key, message, length)
    leaves = (
        blake2b([root.ljust(128, b"\0")], [64 | 64 << 32, i | length << 32, 64 << 8], 64)
        for i in range(length // 64)
    )
    return b"".join(leaves)


def test_reference_agrees_with_hashlib():
    key, message = bytes(range(64)), b"encrypted"
    assert keyed(key, message, 0) == hashlib.blake2b(message, key=key).digest()


@pytest.mark.parametrize("first", [0, 1000])
@pytest.mark.parametrize("buffers", [1, 9])
def test_stream_is_blake2xb(first, buffers):
    seed = np.random.default_rng(buffers).bytes(64)
    out = np.empty(512 * buffers, np.uint64)
    expand_seed(np.frombuffer(seed, "<u8").astype(np.uint64), first, out)
    expected = b"".join(blake2xb(seed, struct.pack("<Q", first + i), 4096) for i in range(buffers))
    assert out.astype("<u8").tobytes() == expected


def test_redrawn_residue_is_seals():
    """A seed whose polynomial has a residue at the biased end, which is drawn again."""
    context = SumProfile.high_assurance(1000).context
    primes = np.array(context.primes[:-1], np.uint64)
    seed = np.array([65933, 0, 0, 0, 0, 0, 0, 0], np.uint64)
    stream = np.empty(4 * 8192, np.uint64)
    expand_seed(seed, 0, stream)
    limits = [(1 << 64) - 1 - ((1 << 64) - 1) % int(p) - 1 for p in primes]
    assert np.any(stream.reshape(4, 8192) >= np.array(limits, np.uint64)[:, None])
    out = np.empty((4, 8192), np.uint32)
    uniform_polynomial(seed, primes, stream, out)
    expected = context.expand(seed.astype("<u8").tobytes(), np.zeros((4, 8192), np.uint64))[1]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("profile", [SumProfile.packed(1000), SumProfile.high_assurance(1000)])
def test_polynomial_is_seals(profile):
    context = profile.context
    primes = np.array(context.primes[:-1], np.uint64)
    zero = np.zeros((profile.primes, profile.degree), np.uint64)
    stream = np.empty(zero.size, np.uint64)
    out = np.empty(zero.shape, np.uint32)
    for i in range(5):
        seed = np.random.default_rng(i).bytes(64)
        uniform_polynomial(np.frombuffer(seed, "<u8").astype(np.uint64), primes, stream, out)
        assert np.array_equal(out, context.expand(seed, zero)[1])
