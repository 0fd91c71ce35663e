"""The OPRF of RFC 9497 against the RFC's own vectors, and its batch forms."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from fedcredit.crypto import group
from fedcredit.crypto.oprf import OprfKey, blind, blind_many, finalize, finalize_many
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "rfc9497_oprf.json").read_text("utf-8")
)
KEY = OprfKey.derive(bytes.fromhex(VECTORS["seed"]), bytes.fromhex(VECTORS["key_info"]))


def test_key_derivation():
    assert KEY.private_bytes().hex() == VECTORS["sk"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["input"][:8])
def test_known_answers(vector):
    item = bytes.fromhex(vector["input"])
    scalar, element = blind(item, bytes.fromhex(vector["blind"]))
    assert element.hex() == vector["blinded_element"]
    evaluated = KEY.blind_evaluate(element)
    assert evaluated.hex() == vector["evaluation_element"]
    assert finalize(item, scalar, evaluated).hex() == vector["output"]
    assert KEY.evaluate(item).hex() == vector["output"]


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_agree_with_single_calls(threads):
    items = [b"enterprise %d" % number for number in range(600)]
    scalars, elements = blind_many(items, threads=threads)
    answers = KEY.blind_evaluate_many(elements, threads=threads)
    outputs = finalize_many(items, scalars, answers, size=20, threads=threads)
    reports = []
    own = KEY.evaluate_many(
        items, size=20, threads=threads, on_progress=lambda *at: reports.append(at)
    )
    np.testing.assert_array_equal(outputs, own)
    assert own[599].tobytes() == KEY.evaluate(items[599])[:20]
    assert reports == [(512, 600), (600, 600)]
    assert len({row.tobytes() for row in elements}) == 600


def test_blinding_is_fresh():
    assert blind(b"same")[1] != blind(b"same")[1]
    assert OprfKey.generate().evaluate(b"same") != OprfKey.generate().evaluate(b"same")


def test_no_items():
    scalars, elements = blind_many([])
    assert (scalars, elements.shape) == ([], (0, 32))
    assert KEY.blind_evaluate_many(elements).shape == (0, 32)


@pytest.mark.parametrize("bad", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_malformed_elements_are_refused(bad):
    with pytest.raises(CiphertextError):
        KEY.blind_evaluate(bad)
    with pytest.raises(CiphertextError):
        finalize(b"item", group.random_scalar(), bad)
    with pytest.raises(CiphertextError):
        KEY.blind_evaluate_many(np.frombuffer(bad, np.uint8).reshape(1, 32))


def test_wrong_shapes_are_refused():
    with pytest.raises(CiphertextError):
        KEY.blind_evaluate_many(np.zeros((1, 31), np.uint8))
    scalars, elements = blind_many([b"a", b"b"])
    with pytest.raises(CiphertextError):
        finalize_many([b"a", b"b"], scalars, elements[:1])
    with pytest.raises(InputError):
        blind(bytes(1 << 16))


@pytest.mark.parametrize("scalar", [bytes(32), b"\xff" * 32, b"short"])
def test_keys_out_of_range_are_refused(scalar):
    with pytest.raises(KeyMaterialError):
        OprfKey(scalar)


def test_key_shows_nothing():
    assert repr(KEY) == "OprfKey()"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(KeyMaterialError):
        OprfKey.derive(b"short seed", b"")
