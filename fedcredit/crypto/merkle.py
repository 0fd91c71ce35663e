"""Merkle trees of append-only logs: roots, inclusion proofs and consistency proofs.

The tree, its hashes and both proofs are those of RFC 9162, section 2.1 (the same as RFC 6962)
over SHA-256::

    MTH({})    = SHA-256()
    MTH({d})   = SHA-256(0x00 || d)                            leaf_hash
    MTH(D[n])  = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))   node_hash, k = 2^i < n <= 2k

A log of n leaves keeps the hash of every *complete* subtree: node (level, position) covers the
leaves ``position * 2^level`` up to ``(position + 1) * 2^level``. Such a node never changes once it
is there, so that proofs for any earlier size can be made from the same store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from fedcredit.errors import ParameterError

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Frontier",
    "NodeStore",
    "complete_subtrees",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "list_inclusion_proof",
    "node_hash",
    "root_at",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES = 32
#: Root of the tree without leaves.
EMPTY_ROOT = sha256(b"").digest()
#: Gives the hash of the complete subtree ``(level, position)``.
NodeStore = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf with the content ``data``, 32 bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over the hashes of its two children, 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def _next_level(hashes: list[bytes]) -> list[bytes]:
    # A last node without sibling moves up as it is: that yields RFC 9162's split at 2^i < n.
    above = [node_hash(a, b) for a, b in zip(hashes[::2], hashes[1::2], strict=False)]
    if len(hashes) % 2:
        above.append(hashes[-1])
    return above


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes.

    Parameters
    ----------
    leaves : sequence of bytes
        :func:`leaf_hash` of every leaf, in order.
    """
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def list_inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the inclusion proof of one of the leaf hashes of a list held in memory.

    Raises
    ------
    ParameterError
        There is no leaf ``index``.
    """
    _require(0 <= index < len(leaves), "the tree has no such leaf.")
    proof, level = [], list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level, index = _next_level(level), index >> 1
    return proof


def complete_subtrees(size: int) -> Iterator[tuple[int, int]]:
    """Yield ``(level, position)`` of the complete subtrees that make up a tree, left to right."""
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, start >> level
            start += 1 << level


class Frontier:
    """The complete subtrees of a growing tree: all that an append needs, O(log n) hashes.

    Parameters
    ----------
    size : int
        Number of leaves so far.
    hashes : sequence of bytes
        The hashes of :func:`complete_subtrees` of ``size``, left to right.

    Raises
    ------
    ParameterError
        Their number does not fit ``size``.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        _require(size >= 0 and len(hashes) == size.bit_count(), "a frontier has the wrong length.")
        self.size = size
        self._hashes = list(hashes)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; return the subtrees that it completes as (level, position, hash)."""
        level, position, top = 0, self.size, leaf
        made = [(level, position, top)]
        while position & 1:
            top = node_hash(self._hashes.pop(), top)
            level, position = level + 1, position >> 1
            made.append((level, position, top))
        self._hashes.append(top)
        self.size += 1
        return made

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        return _fold(self._hashes)


def _fold(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    top = hashes[-1]
    for left in reversed(hashes[:-1]):
        top = node_hash(left, top)
    return top


def root_at(size: int, node: NodeStore) -> bytes:
    """Return the root of the tree of the first ``size`` leaves.

    Parameters
    ----------
    size : int
    node : NodeStore
    """
    return _fold([node(level, position) for level, position in complete_subtrees(size)])


def _range_root(start: int, size: int, node: NodeStore) -> bytes:
    # ``start`` is a multiple of a power of two that is at least ``size``: RFC 9162 asks no other.
    subtrees = complete_subtrees(size)
    return _fold([node(level, (start >> level) + position) for level, position in subtrees])


def _split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, node: NodeStore) -> list[bytes]:
    """Return the proof that leaf ``index`` is in the tree of the first ``size`` leaves.

    RFC 9162, 2.1.3.1.

    Raises
    ------
    ParameterError
        There is no leaf ``index`` in that tree.
    """
    _require(0 <= index < size, "the tree has no such leaf.")
    proof, start = [], 0
    while size > 1:
        k = _split(size)
        if index < start + k:
            proof.append(_range_root(start + k, size - k, node))
            size = k
        else:
            proof.append(_range_root(start, k, node))
            start, size = start + k, size - k
    return proof[::-1]


def consistency_proof(first: int, second: int, node: NodeStore) -> list[bytes]:
    """Return the proof that the tree of ``first`` leaves is the start of the one of ``second``.

    RFC 9162, 2.1.4.1; empty if the sizes are equal or ``first`` is 0.

    Raises
    ------
    ParameterError
        Not ``0 <= first <= second``.
    """
    _require(0 <= first <= second, "a tree is consistent with larger ones only.")
    if first in (0, second):
        return []
    proof, start, size, whole = [], 0, second, True
    while first != size:
        k = _split(size)
        if first <= k:
            proof.append(_range_root(start + k, size - k, node))
            size = k
        else:
            proof.append(_range_root(start, k, node))
            start, first, size, whole = start + k, first - k, size - k, False
    if not whole:
        proof.append(_range_root(start, size, node))
    return proof[::-1]


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether a proof shows that a leaf hash stands at ``index`` of the tree ``root``.

    RFC 9162, 2.1.3.2.

    Parameters
    ----------
    index, size : int
    leaf : bytes
        The leaf's hash.
    proof : sequence of bytes
    root : bytes
    """
    if not 0 <= index < size or not _hashes(leaf, root, *proof):
        return False
    at, last, top = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            top = node_hash(sibling, top)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            top = node_hash(top, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and top == root


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether a proof shows that the first tree is the start of the second.

    RFC 9162, 2.1.4.2; trees of equal size need equal roots and no proof, and the tree without
    leaves is the start of every tree.

    Parameters
    ----------
    first, second : int
        Sizes.
    first_root, second_root : bytes
    proof : sequence of bytes
    """
    if not 0 <= first <= second or not _hashes(first_root, second_root, *proof):
        return False
    if first == second:
        return first_root == second_root and not proof
    if first == 0:
        return first_root == EMPTY_ROOT and not proof
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ParameterError(reason, step="Merkle tree")
