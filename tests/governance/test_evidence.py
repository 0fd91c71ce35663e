"""Evidence bundles: they verify alone, and nothing in them can be changed unnoticed."""

import base64
import copy
import json
import socket
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fedcredit.errors import ConfigError, InputError
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.evidence import Document, verify_bundle
from fedcredit.governance.ledger import Ledger
from fedcredit.node.pki import CertificateAuthority
from fedcredit.wire import Identity

NOW = 1_764_000_000.0
ISSUED = datetime.fromtimestamp(NOW, UTC) - timedelta(days=30)
WHO = [f"91350211M{i:09d}" for i in range(5)]
REQUEST = "ab" * 32
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiIxIn0.c2lnbmF0dXJl"
CA = CertificateAuthority(now=ISSUED)


def member(name: str, ca: CertificateAuthority = CA, **dates: object) -> tuple[Identity, str]:
    issued = ca.issue_signing(name, **{"now": ISSUED, **dates})
    key = serialization.load_pem_private_key(issued.key, None)
    return Identity(name, key), issued.certificate.decode()


TAX, TAX_PEM = member("tax")
SOCIAL, SOCIAL_PEM = member("social")


def token_digest() -> bytes:
    digest = sha256(TOKEN.encode()).digest()
    assert len(digest) == 32
    return digest


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A log of 23 entries about known enterprises, witnessed by another party on its way."""
    directory = tmp_path_factory.mktemp("logs")
    tax = AuditLog(Ledger(f"sqlite:///{directory}/tax.db", party="tax"), TAX)
    social = AuditLog(Ledger(f"sqlite:///{directory}/social.db", party="social"), SOCIAL)
    consents = [token_digest(), *(bytes([i]) * 32 for i in range(1, 5))]

    def append(request: str, n: int, now: float) -> None:
        with tax.ledger.transaction() as tx:
            facts = {"request": request, "outcome": "admitted"}
            tax.append(tx, "score", facts, WHO[:n], consents[:n], now=now)

    for i in range(20):
        append(REQUEST if i == 10 else f"{i:064x}", 5 if i == 10 else i % 3, NOW + i)
        if i in (7, 13):
            head = tax.checkpoint(NOW + i)
            seen = social.witness(head.note, TAX.public_key, NOW + i, proof=tax.prove_consistency)
            tax.accept_copy(seen.note, NOW + i)
    yield tax, social
    tax.ledger.close()
    social.ledger.close()


@pytest.fixture(scope="module")
def bundle(logs):
    documents = [
        Document("consent.jwt", TOKEN.encode(), "consent"),
        Document("receipt.json", json.dumps({"body": {"request": REQUEST}}).encode(), "receipt"),
        Document("scan.pdf", b"\xff\x00scan"),
    ]
    return logs[0].export(
        request=REQUEST,
        disclose=WHO[0],
        now=NOW + 100,
        documents=documents,
        certificates={"tax": TAX_PEM, "social": SOCIAL_PEM},
    )


def test_a_bundle_verifies_offline_from_its_file(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(bundle, indent=1), encoding="utf-8")
    report = verify_bundle(path.read_bytes(), ca=CA.pem)
    assert report.ok, report
    names = [check.name for check in report.checks]
    assert {"entry", "key", "checkpoint", "inclusion", "copy", "disclosure", "document"} == set(
        names
    )
    texts = " ".join(check.text for check in report.checks)
    assert "cosigned by social, 2025-11-24 16:00:13 UTC" in texts
    assert "which had the entry already" in texts
    assert "consent.jwt: the entry names it" in texts


def test_keys_do_as_well_as_a_ca(bundle):
    assert verify_bundle(bundle, keys={"tax": TAX.public_key, "social": SOCIAL.public_key}).ok
    assert verify_bundle(bundle, keys={"tax": SOCIAL.public_key}).failed == ("checkpoint",)
    with pytest.raises(InputError):
        verify_bundle(bundle)
    with pytest.raises(ConfigError):
        verify_bundle(bundle, ca=b"no certificate")


def test_a_bundle_names_the_disclosed_enterprise_alone(bundle):
    text = json.dumps(bundle)
    assert WHO[0] in text
    assert not [who for who in WHO[1:] if who in text]


def test_without_disclosure_no_enterprise_is_named(logs):
    bare = logs[0].export(10, now=NOW + 100, certificates={"tax": TAX_PEM})
    assert verify_bundle(bare, ca=CA.pem).ok
    assert not [who for who in WHO if who in json.dumps(bare)]


def other_text(text: str) -> str:
    at = len(text) // 2
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


def changes():
    """Every way to change one value of the bundle that is not an explanation."""

    def case(name, change):
        return pytest.param(change, id=name)

    def entry(old, new):
        def change(b):
            assert old in b["entry"]
            b["entry"] = b["entry"].replace(old, new)

        return change

    def at(*path, value=other_text):
        def change(b):
            for step in path[:-1]:
                b = b[step]
            b[path[-1]] = value(b[path[-1]]) if callable(value) else value

        return change

    yield case("outcome", entry("admitted", "budget_exhausted"))
    yield case("number", entry('"number":10', '"number":11'))
    yield case("time", entry('"time":1764000010000', '"time":1764000010001'))
    yield case("count", entry('"count":5', '"count":6'))
    yield case("blank", entry('"number":10', '"number": 10'))
    yield case("log", entry("tax/fedcredit-audit", "social/fedcredit-audit"))
    yield case("party", at("party", value="social"))
    yield case("bundle too old", at("time", value=int(NOW)))
    yield case("bundle after the certificate", at("time", value=int(NOW) + 10**9))
    yield case("checkpoint", at("checkpoint"))
    yield case("size", at("checkpoint", value=lambda note: note.replace("\n20\n", "\n21\n")))
    yield case("inclusion", at("inclusion", 0))
    yield case("no inclusion", at("inclusion", value=[]))
    yield case("longer inclusion", at("inclusion", value=lambda proof: [*proof, "00" * 32]))
    yield case("copy", at("copies", 0, "note"))
    yield case("consistency", at("copies", 1, "consistency", 0))
    yield case("no consistency", at("copies", 1, "consistency", value=[]))
    yield case("subject", at("disclosure", "subject", value=WHO[1]))
    yield case("consent", at("disclosure", "consent"))
    yield case("salt", at("disclosure", "salt"))
    yield case("position", at("disclosure", "position", value=1))
    yield case("path", at("disclosure", "path", 0))
    yield case("document", at("documents", 0, "content"))
    yield case("digest", at("documents", 2, "sha256"))
    yield case("other party's certificate", at("certificates", "tax", value=SOCIAL_PEM))
    yield case("no certificate", at("certificates", value={}))
    yield case("witness's certificate", at("certificates", "social", value=TAX_PEM))
    yield case("format", at("format", value="fedcredit-evidence/2"))
    yield case("wrong type", at("inclusion", value=7))
    yield case("unknown key", lambda b: b.update(more=1))
    yield case("missing key", lambda b: b.pop("copies"))


@pytest.mark.parametrize("change", list(changes()))
def test_every_change_is_noticed(bundle, change):
    changed = copy.deepcopy(bundle)
    change(changed)
    assert changed != bundle
    assert not verify_bundle(changed, ca=CA.pem).ok


def replaced(bundle, at, content, kind):
    changed = copy.deepcopy(bundle)
    changed["documents"][at] = Document("x", content, kind).to_dict()
    return changed


def test_documents_of_another_question_are_refused(bundle):
    receipt = json.dumps({"request": "cd" * 32}).encode()
    for at, content, kind in (
        (0, b"eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiIyIn0.c2ln", "consent"),
        (1, receipt, "receipt"),
        (1, b"no json", "receipt"),
    ):
        assert not verify_bundle(replaced(bundle, at, content, kind), ca=CA.pem).ok
    assert verify_bundle(replaced(bundle, 0, b"anything", "other"), ca=CA.pem).ok


def test_binary_documents_travel_as_they_are(bundle):
    stored = bundle["documents"][2]
    assert base64.b64decode(stored["base64"]) == b"\xff\x00scan"


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_bundle_fails_and_raises_nothing(junk):
    assert verify_bundle(junk, ca=CA.pem).failed == ("format",)


def export_with(logs, pem):
    return logs[0].export(10, now=NOW + 100, certificates={"tax": pem})


def test_foreign_and_expired_certificates_are_refused(logs):
    public = TAX.public_key
    foreign = CertificateAuthority(now=ISSUED)
    _, forged = member("tax", foreign)
    _, other_key = member("tax")
    _, expired = member("tax", days=3)
    for pem in (forged, other_key, expired, SOCIAL_PEM, CA.pem.decode(), "no certificate"):
        assert x509.load_pem_x509_certificate(TAX_PEM.encode()).public_key() == public
        assert not verify_bundle(export_with(logs, pem), ca=CA.pem).ok
    assert not verify_bundle(export_with(logs, TAX_PEM), ca=foreign.pem).ok
    assert verify_bundle(export_with(logs, TAX_PEM), ca=foreign.pem + CA.pem).ok


def test_a_cosignature_of_an_unknown_witness_counts_for_nothing(logs):
    bare = logs[0].export(10, now=NOW + 100, certificates={"tax": TAX_PEM})
    report = verify_bundle(bare, ca=CA.pem)
    assert report.ok
    assert not [check for check in report.checks if "cosigned" in check.text]
