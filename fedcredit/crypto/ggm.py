"""Puncturable seeds: 32 trees of 16 leaves, of which the other party knows all but one each.

A tree is the pseudorandom function of Goldreich, Goldwasser and Micali: a random root, doubled
four times by a PRG. The *puncturer* picks one leaf per tree in secret and learns the other 15 by
four base oblivious transfers per tree, one for each bit of its leaf: on every level it receives the
XOR of the children on the side that its path does not take, and so completes all but the path.

A cheating *builder* could send level sums of its liking, so that what the puncturer computes
depends on the punctured leaf. The check is that of Roy, "SoftSpokenOT" (CRYPTO 2022), for the
puncturable PRF in the malicious model: every leaf is stretched to a seed and 32 check bytes; the
builder adds the XOR of a tree's check bytes and a hash of all of them, and the puncturer
reconstructs the missing ones and compares. What remains is a guess of punctured leaves that is
caught when wrong, which SoftSpokenOT allows for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.prg import prg
from fedcredit.errors import CiphertextError

__all__ = ["DEPTH", "LEAVES", "MESSAGE_BYTES", "TREES", "build", "complete", "path_choices"]

TREES: Final = 32
DEPTH: Final = 4
LEAVES: Final = 1 << DEPTH

_SEED: Final = 16
_CHECK: Final = 32
_SUMS: Final = TREES * DEPTH * 2 * _SEED
_CHECKS: Final = TREES * _CHECK
MESSAGE_BYTES: Final = _SUMS + 2 * _CHECKS

# Streams of one seed: its children, or as a leaf its output.
_CHILDREN: Final = 0
_OUTPUT: Final = 1

_STEP: Final = "selection setup"


def _children(nodes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Double every node, (trees, k, 16) to (trees, 2k, 16)."""
    pairs = [prg(node.tobytes(), 2 * _SEED, _CHILDREN) for node in nodes.reshape(-1, _SEED)]
    return np.concatenate(pairs).reshape(len(nodes), -1, _SEED)


def _outputs(leaves: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Stretch every leaf, (trees, 16, 16), to its seed and its check bytes."""
    parts = [prg(leaf.tobytes(), _SEED + _CHECK, _OUTPUT) for leaf in leaves.reshape(-1, _SEED)]
    whole = np.concatenate(parts).reshape(len(leaves), LEAVES, _SEED + _CHECK)
    return whole[:, :, :_SEED].copy(), whole[:, :, _SEED:].copy()


def _digest(session: bytes, tree: int, checks: NDArray[np.uint8]) -> bytes:
    data = b"fedcredit-ggm-v1" + session + tree.to_bytes(4, "big") + checks.tobytes()
    return hashlib.sha256(data).digest()


def _xor(nodes: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    folded: NDArray[np.uint8] = np.bitwise_xor.reduce(nodes, axis=axis)
    return folded


def path_choices(punctured: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the base-OT choices of the puncturer: on every level the side off its path.

    Parameters
    ----------
    punctured : ndarray of uint8, shape (32,)
        The secret leaf of each tree, 0 to 15.

    Returns
    -------
    ndarray of uint8, shape (128,)
        Entry ``4·j + l`` is the choice for level ``l`` of tree ``j``, the root's children first.
    """
    shifts = np.arange(DEPTH - 1, -1, -1, dtype=np.uint8)
    return (1 ^ (punctured[:, None] >> shifts & 1)).astype(np.uint8).reshape(-1)


def build(session: bytes, keys: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bytes]:
    """Grow fresh trees and hide their level sums under the base-OT keys.

    Parameters
    ----------
    session : bytes
        The session's name or digest.
    keys : ndarray of uint8, shape (128, 2, 16)
        Both keys of every base OT.

    Returns
    -------
    seeds : ndarray of uint8, shape (32, 16, 16)
        Every leaf's seed, secret.
    message : bytes
        ``MESSAGE_BYTES`` bytes for the puncturer.
    """
    nodes = np.frombuffer(secrets.token_bytes(TREES * _SEED), np.uint8).reshape(TREES, 1, _SEED)
    sums = np.empty((TREES, DEPTH, 2, _SEED), np.uint8)
    for level in range(DEPTH):
        nodes = _children(nodes)
        for side in (0, 1):
            sums[:, level, side] = _xor(nodes[:, side::2], axis=1)
    sums ^= keys.reshape(sums.shape)
    seeds, checks = _outputs(nodes)
    digests = b"".join(_digest(session, tree, checks[tree]) for tree in range(TREES))
    return seeds, sums.tobytes() + _xor(checks, axis=1).tobytes() + digests


def complete(
    session: bytes, punctured: NDArray[np.uint8], keys: NDArray[np.uint8], message: bytes
) -> NDArray[np.uint8]:
    """Recover all leaves but the punctured ones and check that the builder was consistent.

    Parameters
    ----------
    session : bytes
        As at the builder.
    punctured : ndarray of uint8, shape (32,)
        The secret leaf of each tree, 0 to 15.
    keys : ndarray of uint8, shape (128, 16)
        The key of every base OT for the choices of `path_choices`.
    message : bytes
        What `build` returned.

    Returns
    -------
    ndarray of uint8, shape (32, 16, 16)
        Every leaf's seed; that of a punctured leaf is zero and means nothing.

    Raises
    ------
    CiphertextError
        If the message has another length or the check fails. The punctured leaves must then be
        given up, because the refusal itself tells the builder something about them.
    """
    if len(message) != MESSAGE_BYTES:
        raise CiphertextError(f"the seed message does not have {MESSAGE_BYTES} bytes.", step=_STEP)
    data = np.frombuffer(message, np.uint8)
    sums = data[:_SUMS].reshape(TREES, DEPTH, 2, _SEED)
    totals = data[_SUMS : _SUMS + _CHECKS].reshape(TREES, _CHECK)
    digests = message[_SUMS + _CHECKS :]
    trees = np.arange(TREES)
    sides = path_choices(punctured).reshape(TREES, DEPTH)
    own = keys.reshape(TREES, DEPTH, _SEED)
    nodes = np.zeros((TREES, 1, _SEED), np.uint8)
    for level in range(DEPTH):
        path = punctured >> (DEPTH - level)
        nodes = _children(nodes)
        # The children of the path's node came from a node that is not known.
        nodes[trees, 2 * path] = 0
        nodes[trees, 2 * path + 1] = 0
        side = sides[:, level]
        known = _xor(nodes.reshape(TREES, -1, 2, _SEED), axis=1)[trees, side]
        nodes[trees, 2 * path + side] = sums[trees, level, side] ^ own[:, level] ^ known
    seeds, checks = _outputs(nodes)
    seeds[trees, punctured] = 0
    checks[trees, punctured] = 0
    checks[trees, punctured] = totals ^ _xor(checks, axis=1)
    expected = b"".join(_digest(session, tree, checks[tree]) for tree in range(TREES))
    if not hmac.compare_digest(expected, digests):
        raise CiphertextError(
            "the seeds of the selection do not check.",
            step=_STEP,
            fix="drop the session; the peer built its seeds dishonestly",
        )
    return seeds
