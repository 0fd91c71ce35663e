"""The registry of keys: names, life, and what is not accepted as one."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.errors import InputError, KeyMaterialError
from fedcredit.governance.keys import KeyRegistry, check_public_key, normalise_subject
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.tokens import thumbprint
from tests.support.consents import DAY, NOW, enterprise, uscc


@pytest.fixture
def keys():
    return KeyRegistry(Ledger("sqlite://", party="tax"), "tax")


def public(number):
    return enterprise(number).public_key


def test_thumbprint_of_rfc_8037():
    # RFC 8037, appendix A.2 and A.3.
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert thumbprint(base64.urlsafe_b64decode(x + "=")) == (
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    )


def test_a_key_is_found_by_its_id(keys):
    kid = keys.add("subject", " 91440300-ma50000001", public(1), NOW)
    found = keys.find(kid)
    assert (found.owner_kind, found.owner, found.public_key) == ("subject", uscc(1), public(1))
    assert (found.status, found.valid_from, found.valid_to) == ("active", NOW, None)
    assert keys.find("x" * 43) is None
    assert uscc(1) not in repr(found)
    assert [key.kid for key in keys.list(owner=uscc(1).lower())] == [kid]


def test_keys_of_institutions_are_kept_apart_by_name(keys):
    keys.add("institution", "bank", public(1), NOW)
    keys.add("subject", uscc(2), public(2), NOW + 1)
    assert [key.owner for key in keys.list()] == ["bank", uscc(2)]
    assert [key.owner_kind for key in keys.list(owner="bank")] == ["institution"]
    assert keys.list(owner="insurer") == ()


def test_a_key_is_entered_once(keys):
    kid = keys.add("subject", uscc(1), public(1), NOW)
    for owner in (uscc(1), uscc(2)):
        with pytest.raises(InputError, match="known already"):
            keys.add("subject", owner, public(1), NOW)
    keys.revoke(kid, NOW)
    with pytest.raises(InputError, match="known already"):
        keys.add("subject", uscc(1), public(1), NOW)


def test_rotation_keeps_the_old_key_for_a_while(keys):
    old = keys.add("subject", uscc(1), public(1), NOW)
    new = keys.rotate(old, public(2), NOW + DAY, grace=10 * DAY)
    retired, active = keys.find(old), keys.find(new)
    assert (retired.status, retired.valid_to, active.status) == (
        "retired",
        NOW + 11 * DAY,
        "active",
    )
    assert active.owner == uscc(1)
    assert retired.accepts(NOW + 5, NOW + 10 * DAY)
    assert not retired.accepts(NOW + 5, NOW + 12 * DAY)  # presented too late, whatever its date
    assert not retired.accepts(NOW - 3600, NOW + DAY)  # dated before the key was known
    assert active.accepts(NOW + DAY, NOW + 1000 * DAY)
    with pytest.raises(InputError, match="retired already"):
        keys.rotate(old, public(3), NOW + 2 * DAY)


def test_rotation_never_prolongs_a_key(keys):
    old = keys.add("subject", uscc(1), public(1), NOW, valid_to=NOW + DAY)
    keys.rotate(old, public(2), NOW, grace=30 * DAY)
    assert keys.find(old).valid_to == NOW + DAY


def test_a_failed_rotation_changes_nothing(keys):
    old = keys.add("subject", uscc(1), public(1), NOW)
    keys.add("subject", uscc(2), public(2), NOW)
    with pytest.raises(InputError):
        keys.rotate(old, public(2), NOW)
    with pytest.raises(InputError):
        keys.rotate(old, public(3), NOW, grace=float("nan"))
    assert keys.find(old).status == "active"


def test_a_revoked_key_stays_revoked(keys):
    kid = keys.add("subject", uscc(1), public(1), NOW)
    keys.revoke(kid, NOW + 5)
    keys.revoke(kid, NOW + 50)
    found = keys.find(kid)
    assert (found.status, found.valid_to) == ("revoked", NOW + 5)
    assert not found.accepts(NOW + 1, NOW + 2)
    with pytest.raises(InputError, match="revoked already"):
        keys.rotate(kid, public(2), NOW + 6)
    with pytest.raises(InputError, match="no such key"):
        keys.revoke("x" * 43, NOW)


def test_a_change_takes_part_in_the_callers_transaction(keys):
    def enter_and_fail():
        with keys._ledger.transaction() as tx:
            kid = keys.add("subject", uscc(1), public(1), NOW, tx=tx)
            assert keys.find(kid, tx) is not None
            keys.add("subject", uscc(2), public(1), NOW, tx=tx)

    with pytest.raises(InputError, match="known already"):
        enter_and_fail()
    assert keys.list() == ()


@pytest.mark.parametrize(
    ("kind", "owner", "times"),
    [
        ("subject", "?", {}),
        ("subject", "", {}),
        ("subject", None, {}),
        ("institution", "", {}),
        ("institution", "b" * 129, {}),
        ("regulator", "x", {}),
        ("subject", uscc(1), {"valid_to": NOW}),
    ],
)
def test_other_owners_and_times_are_refused(keys, kind, owner, times):
    with pytest.raises(InputError):
        keys.add(kind, owner, public(1), NOW, **times)


# Points of small order on edwards25519 and their non-canonical spellings.
SMALL = [
    "00" * 32,
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "00" * 31 + "80",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
    "ff" * 32,
]
NO_POINT = ["02" + "00" * 31, "01" + "00" * 30 + "80"]


@pytest.mark.parametrize("encoded", SMALL + NO_POINT)
def test_keys_under_which_anybody_could_sign_are_refused(keys, encoded):
    with pytest.raises(KeyMaterialError):
        keys.add("subject", uscc(1), bytes.fromhex(encoded), NOW)
    assert keys.list() == ()


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, "x" * 32, None, bytearray(32)])
def test_other_things_are_no_keys(key):
    with pytest.raises(KeyMaterialError, match="32 bytes"):
        check_public_key(key)


def test_every_real_key_is_accepted():
    for number in range(1, 100):
        key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        raw = key.public_key().public_bytes_raw()
        assert check_public_key(raw) == raw


def test_a_subject_has_one_spelling():
    assert normalise_subject("９１４４０３００ma50000001 ") == uscc(1)
