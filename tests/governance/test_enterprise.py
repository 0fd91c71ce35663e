"""An enterprise's key file and what it signs."""

import copy
import pickle
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from fedcredit.errors import InputError, KeyMaterialError, StorageError
from fedcredit.governance.consent import parse_consent
from fedcredit.governance.enterprise import Enterprise
from tests.support.consents import DAY, NOW, SCORE, enterprise, grant, taken_apart, uscc


@pytest.mark.parametrize("passphrase", [None, "correct horse, 密码"])
def test_a_key_comes_back_from_its_file(tmp_path, passphrase):
    who = Enterprise.generate(uscc(7).lower())
    who.save(tmp_path / "key.pem", passphrase)
    back = Enterprise.load(tmp_path / "key.pem", passphrase)
    assert (back.uscc, back.kid, back.public_key) == (uscc(7), who.kid, who.public_key)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    text = (tmp_path / "key.pem").read_text()
    assert text.startswith(f"Subject: {uscc(7)}\n-----BEGIN ")
    assert ("ENCRYPTED" in text) == (passphrase is not None)


def test_a_wrong_or_missing_passphrase_is_named(tmp_path):
    enterprise().save(tmp_path / "key.pem", "secret words")
    for passphrase in (None, "", "other words"):
        with pytest.raises(KeyMaterialError, match="passphrase") as caught:
            Enterprise.load(tmp_path / "key.pem", passphrase)
        assert "words" not in str(caught.value)


def test_a_file_is_never_overwritten(tmp_path):
    enterprise().save(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(StorageError):
        enterprise(2).save(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


def test_files_of_others(tmp_path):
    path = tmp_path / "key.pem"
    with pytest.raises(StorageError):
        Enterprise.load(path)
    path.write_bytes(b"no key")
    with pytest.raises(KeyMaterialError):
        Enterprise.load(path)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(*pem, serialization.NoEncryption())
    )
    with pytest.raises(KeyMaterialError, match="Ed25519"):
        Enterprise.load(path, uscc=uscc(1))
    path.write_bytes(enterprise()._key.private_bytes(*pem, serialization.NoEncryption()))
    with pytest.raises(InputError, match="name its enterprise"):
        Enterprise.load(path)
    assert Enterprise.load(path, uscc=uscc(1)).kid == enterprise().kid


def test_the_key_stays_inside():
    who = enterprise()
    assert who.uscc not in repr(who)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(who)


def test_a_consent_says_what_was_granted():
    token = grant(enterprise(), valid_days=3, max_uses=5, not_before=NOW + 60)
    head, claims = taken_apart(token)
    assert head == {"alg": "EdDSA", "kid": enterprise().kid, "typ": "fedcredit-consent+jwt"}
    jti = claims.pop("jti")
    assert len(bytes.fromhex(jti)) == 16
    assert claims == {
        "iss": uscc(1),
        "sub": uscc(1),
        "aud": "bank",
        "iat": int(NOW),
        "nbf": int(NOW) + 60,
        "exp": int(NOW) + 3 * DAY,
        "purpose": "credit_granting",
        "scope": [SCORE, "reasons"],
        "max_uses": 5,
    }
    consent = parse_consent(token)
    assert (consent.subject, consent.jti, consent.max_uses) == (uscc(1), jti, 5)
    assert uscc(1) not in repr(consent)


@pytest.mark.parametrize(
    "changes",
    [
        {"institution": "The Bank"},
        {"institution": ""},
        {"institution": ["bank"]},
        {"purpose": "marketing"},
        {"scope": []},
        {"scope": ["score:*"]},
        {"scope": [SCORE, SCORE]},
        {"scope": [f"score:m{i}@1" for i in range(33)]},
        {"max_uses": 0},
        {"max_uses": True},
        {"valid_days": 401},
        {"valid_days": -1},
        {"valid_days": 3, "expires": NOW + 5},
        {"not_before": NOW - DAY},
    ],
)
def test_what_parties_would_refuse_is_not_signed(changes):
    with pytest.raises(InputError):
        grant(enterprise(), **changes)


def test_a_revocation_names_a_consent():
    who, token = enterprise(), grant(enterprise())
    jti = taken_apart(token)[1]["jti"]
    for given in (token, jti):
        head, claims = taken_apart(who.revoke(given, now=NOW + 5))
        assert head["typ"] == "fedcredit-revocation+jwt"
        assert claims == {"iss": uscc(1), "sub": uscc(1), "iat": int(NOW) + 5, "jti": jti}
    for wrong in ("", "x", jti.upper(), jti[:-1], token[:-1], grant(enterprise(2))):
        with pytest.raises(InputError):
            who.revoke(wrong, now=NOW)
