"""`backend="paillier"` at the estimators: the same model, shown as what it is."""

import pytest
from sklearn.base import clone

from fedcredit.crypto.paillier_profile import TEST_KEY_BITS, PaillierProfile
from fedcredit.errors import InputError
from tests.support.parties import LABEL, assert_helpful, classifier, federation, tables


@pytest.fixture(autouse=True)
def small_keys(monkeypatch):
    monkeypatch.setattr(PaillierProfile, "min_key_bits", TEST_KEY_BITS)


def test_the_model_is_that_of_bfv():
    parts, _ = tables(120)
    frame = federation(parts).align(on="id")
    bfv = classifier(precision="exact").fit(frame, LABEL)
    paillier = clone(bfv).set_params(backend="paillier").fit(frame, LABEL)
    assert [t.to_dict() for t in paillier.state_.trees] == [t.to_dict() for t in bfv.state_.trees]
    assert (paillier.predict_proba(frame) == bfv.predict_proba(frame)).all()
    again = type(paillier).load(paillier._stored().to_bytes())
    assert again.backend == "paillier"
    ciphertext = paillier.report(compare=False).privacy.ciphertext
    assert ciphertext["scheme"].startswith("Paillier")
    assert ciphertext["modulus"] == f"{TEST_KEY_BITS} bits"


@pytest.mark.parametrize("wrong", [{"precision": "high"}, {"block": 512}, {"backend": "ckks"}])
def test_what_paillier_does_not_have_is_refused(wrong):
    parts, _ = tables(60)
    frame = federation(parts).align(on="id")
    with pytest.raises(InputError) as caught:
        classifier(**({"backend": "paillier"} | wrong)).fit(frame, LABEL)
    assert_helpful(caught.value)
