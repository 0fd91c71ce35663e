"""Merkle trees against Certificate Transparency's reference vectors and the RFC's recursion."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto import merkle
from fedcredit.errors import ParameterError

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "rfc6962_merkle.json").read_text(encoding="utf-8")
)
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]
INPUTS = [bytes.fromhex(text) for text in VECTORS["inputs"]]
LEAVES = [merkle.leaf_hash(data) for data in INPUTS]
OTHER = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


def unhex(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def stored(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    frontier, nodes = merkle.Frontier(), {}
    for leaf in leaves:
        nodes.update({(level, at): value for level, at, value in frontier.append(leaf)})
    assert frontier.root() == merkle.root_of(leaves)
    return nodes


def store_of(leaves: list[bytes]) -> merkle.NodeStore:
    nodes = stored(leaves)
    return lambda level, position: nodes[level, position]


# RFC 9162, 2.1: the definitions as they stand there, over the data itself.
def naive_root(data: list[bytes]) -> bytes:
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\x00" + data[0]).digest()
    k = naive_split(len(data))
    return sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def naive_split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def naive_path(m: int, data: list[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = naive_split(len(data))
    if m < k:
        return [*naive_path(m, data[:k]), naive_root(data[k:])]
    return [*naive_path(m - k, data[k:]), naive_root(data[:k])]


def naive_subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    if m == len(data):
        return [] if whole else [naive_root(data)]
    k = naive_split(len(data))
    if m <= k:
        return [*naive_subproof(m, data[:k], whole), naive_root(data[k:])]
    return [*naive_subproof(m - k, data[k:], False), naive_root(data[:k])]


def test_roots_and_nodes_are_the_reference_ones():
    for size, root in enumerate(ROOTS):
        assert merkle.root_of(LEAVES[:size]) == root
        assert merkle.root_at(size, store_of(LEAVES)) == root
    assert stored(LEAVES) == {
        (level, position): bytes.fromhex(value)
        for level, row in enumerate(VECTORS["nodes"])
        for position, value in enumerate(row)
    }


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_reference_inclusion_proofs(vector):
    index, size, proof = vector["index"], vector["size"], unhex(vector["proof"])
    assert merkle.inclusion_proof(index, size, store_of(LEAVES)) == proof
    assert merkle.list_inclusion_proof(LEAVES[:size], index) == proof
    assert merkle.verify_inclusion(index, size, LEAVES[index], proof, ROOTS[size])


@pytest.mark.parametrize("vector", VECTORS["consistency"])
def test_reference_consistency_proofs(vector):
    first, second, proof = vector["first"], vector["second"], unhex(vector["proof"])
    assert merkle.consistency_proof(first, second, store_of(LEAVES)) == proof
    assert merkle.verify_consistency(first, second, ROOTS[first], ROOTS[second], proof)


def bad_proofs(proof: list[bytes], *extra: bytes) -> Iterator[list[bytes]]:
    for value in (b"", OTHER, *extra):
        yield [*proof, value]
        yield [value, *proof]
    for at in range(len(proof)):
        yield proof[:at] + proof[at + 1 :]
        flipped = bytes([proof[at][0] ^ 8]) + proof[at][1:]
        yield [*proof[:at], flipped, *proof[at + 1 :]]
    if len(proof) > 1:
        yield [proof[0], OTHER, *proof[1:]]
        yield proof[::-1]


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_bad_inclusion_proofs_are_refused(vector):
    index, size, proof = vector["index"], vector["size"], unhex(vector["proof"])
    leaf, root = LEAVES[index], ROOTS[size]
    wrong = [
        (index - 1, size, leaf, proof, root),
        (index + 1, size, leaf, proof, root),
        (index ^ 2, size, leaf, proof, root),
        (index, size * 2, leaf, proof, root),
        (index, size // 2, leaf, proof, root),
        (index, size, b"WrongLeaf", proof, root),
        (index, size, leaf, proof, ROOTS[0]),
        (index, size, leaf, proof, OTHER),
        (index, size, b"", proof, root),
        *((index, size, leaf, bad, root) for bad in bad_proofs(proof, root)),
    ]
    assert not [case for case in wrong if merkle.verify_inclusion(*case)]


@pytest.mark.parametrize("vector", [v for v in VECTORS["consistency"] if v["proof"]])
def test_bad_consistency_proofs_are_refused(vector):
    first, second, proof = vector["first"], vector["second"], unhex(vector["proof"])
    old, new = ROOTS[first], ROOTS[second]
    wrong = [
        (first - 1, second, old, new, proof),
        (first + 1, second, old, new, proof),
        (first ^ 2, second, old, new, proof),
        (first, second * 2, old, new, proof),
        (first, second // 2, old, new, proof),
        (first, second, b"WrongRoot", new, proof),
        (first, second, old, b"WrongRoot", proof),
        (first, second, new, old, proof),
        (first, second, old, new, []),
        *((first, second, old, new, bad) for bad in bad_proofs(proof, old, new, proof[0])),
    ]
    assert not [case for case in wrong if merkle.verify_consistency(*case)]


@pytest.mark.parametrize(
    ("first", "second", "old", "new", "proof"),
    [
        (1, 0, ROOTS[1], ROOTS[0], []),
        (2, 1, ROOTS[2], ROOTS[1], []),
        (1, 2, ROOTS[1], ROOTS[2], []),
        (0, 0, ROOTS[0], OTHER, []),
        (1, 1, ROOTS[0], ROOTS[1], []),
        (0, 1, OTHER, ROOTS[1], []),
        (0, 1, ROOTS[0], ROOTS[1], [ROOTS[0]]),
        (1, 1, ROOTS[1], ROOTS[1], [ROOTS[0]]),
        (-1, 1, ROOTS[0], ROOTS[1], []),
    ],
)
def test_degenerate_consistency_is_refused(first, second, old, new, proof):
    assert not merkle.verify_consistency(first, second, old, new, proof)


def test_the_empty_tree_is_the_start_of_every_tree():
    assert merkle.verify_consistency(0, 5, merkle.EMPTY_ROOT, ROOTS[5], [])
    assert merkle.consistency_proof(0, 5, store_of(LEAVES)) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70), st.data())
def test_like_the_recursion_of_the_rfc(data, draw):
    leaves = [merkle.leaf_hash(item) for item in data]
    node = store_of(leaves)
    size = draw.draw(st.integers(1, len(data)))
    index = draw.draw(st.integers(0, size - 1))
    first = draw.draw(st.integers(1, size))
    root = naive_root(data[:size])
    assert merkle.root_at(size, node) == merkle.root_of(leaves[:size]) == root
    path = merkle.inclusion_proof(index, size, node)
    assert path == naive_path(index, data[:size])
    assert path == merkle.list_inclusion_proof(leaves[:size], index)
    assert merkle.verify_inclusion(index, size, leaves[index], path, root)
    proof = merkle.consistency_proof(first, size, node)
    assert proof == naive_subproof(first, data[:size], True)
    assert merkle.verify_consistency(first, size, naive_root(data[:first]), root, proof)
    resumed = merkle.Frontier(size, [node(*at) for at in merkle.complete_subtrees(size)])
    assert resumed.root() == root


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.data())
def test_no_other_history_is_consistent(size, draw):
    """A log in which one old leaf was edited has no proof that the verifier accepts."""
    first = draw.draw(st.integers(1, size - 1))
    edited = draw.draw(st.integers(0, first - 1))
    honest = [merkle.leaf_hash(bytes([i])) for i in range(size)]
    forged = [OTHER if i == edited else leaf for i, leaf in enumerate(honest)]
    for source in (honest, forged):
        proof = merkle.consistency_proof(first, size, store_of(source))
        assert not merkle.verify_consistency(
            first, size, merkle.root_of(honest[:first]), merkle.root_of(forged), proof
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda node: merkle.inclusion_proof(8, 8, node),
        lambda node: merkle.inclusion_proof(-1, 8, node),
        lambda node: merkle.consistency_proof(5, 4, node),
        lambda node: merkle.list_inclusion_proof(LEAVES, 8),
        lambda node: merkle.Frontier(3, [OTHER]),
    ],
)
def test_what_is_not_in_the_tree_cannot_be_proven(call):
    with pytest.raises(ParameterError):
        call(store_of(LEAVES))
