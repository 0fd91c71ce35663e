"""Certificates: what is made, and every way in which one can be wrong."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedcredit.errors import AuthenticationError, ConfigError, KeyMaterialError, PeerUnavailable
from fedcredit.governance.section import check_party_name
from fedcredit.node.certs import Trust, check_expiry, load_signing, load_tls
from fedcredit.node.connection import HubConnection, diagnose, hub_status
from fedcredit.node.hub import Hub
from fedcredit.node.pki import (
    CertificateAuthority,
    PartyFiles,
    make_federation,
    write_private,
)
from tests.node.conftest import TIMEOUTS, Federation, uri_of


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
def files(authority: CertificateAuthority, tmp_path: Path) -> PartyFiles:
    return authority.write_party(tmp_path / "tax", "tax")


def tls_of(files: PartyFiles, party: str = "tax"):
    return load_tls(party, files.certificate, files.key, files.ca)


def signing_of(files: PartyFiles, party: str = "tax"):
    return load_signing(party, files.signing_certificate, files.signing_key, files.ca)


def test_contents_and_modes(files: PartyFiles):
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    extensions = certificate.extensions
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    assert names[0] == x509.DNSName("tax")
    assert {str(name.value) for name in names[1:]} == {"localhost", "127.0.0.1"}
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    signing = x509.load_pem_x509_certificate(files.signing_certificate.read_bytes())
    assert isinstance(signing.public_key(), ed25519.Ed25519PublicKey)
    for key in (files.key, files.signing_key):
        assert key.stat().st_mode & 0o777 == 0o600
        assert b"BEGIN PRIVATE KEY" in key.read_bytes()
    assert files.certificate.parent.stat().st_mode & 0o777 == 0o700


def test_good_files_load_and_keep_their_secrets(files: PartyFiles, authority):
    tls, credentials = tls_of(files), signing_of(files)
    assert repr(tls) == "TlsMaterial('tax')"
    assert "PRIVATE" not in repr(credentials) + repr(authority)
    key = credentials.trust.verify_signing("tax", credentials.certificate)
    key.verify(credentials.identity.sign(b"data"), b"data")
    for secret in (tls, credentials, authority):
        with pytest.raises(KeyMaterialError):
            pickle.dumps(secret)


def wrong(authority: CertificateAuthority, case: str, files: PartyFiles) -> None:
    """Make one file of ``files`` wrong."""
    now = datetime.now(UTC)
    if case == "expired":
        issued = authority.issue_tls("tax", days=30, now=now - timedelta(days=31))
    elif case == "early":
        issued = authority.issue_tls("tax", now=now + timedelta(days=2))
    elif case == "name":
        issued = authority.issue_tls("social")
    elif case == "issuer":
        issued = CertificateAuthority().issue_tls("tax")
    elif case == "purpose":
        issued = authority.issue_signing("tax")
    elif case == "mismatch":
        write_private(files.key, authority.issue_tls("tax").key)
        return
    elif case == "garbage":
        files.certificate.write_bytes(b"hello")
        return
    elif case == "key garbage":
        files.key.write_bytes(b"hello")
        return
    elif case == "encrypted":
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        return
    elif case == "open":
        files.key.chmod(0o644)
        return
    elif case == "missing":
        files.key.unlink()
        return
    else:
        files.ca.write_bytes(files.certificate.read_bytes())
        return
    write_private(files.certificate, issued.certificate)
    write_private(files.key, issued.key)


@pytest.mark.parametrize(
    ("case", "match"),
    [
        ("expired", "tls.pem expired on"),
        ("early", "tls.pem is not valid before"),
        ("name", "is for 'social', not for 'tax'"),
        ("issuer", "was not issued by the federation's CA"),
        ("purpose", "does not allow both TLS server and client use"),
        ("mismatch", "tls.key does not belong to"),
        ("garbage", "tls.pem is no certificate"),
        ("key garbage", "tls.key is no private key"),
        ("encrypted", "tls.key is encrypted"),
        ("open", "tls.key can be read by other users"),
        ("missing", "tls.key cannot be read"),
        ("ca", "contain a certificate that is no certificate authority's"),
    ],
)
def test_wrong_files_are_refused_with_party_file_and_fix(authority, files, case, match):
    wrong(authority, case, files)
    with pytest.raises(ConfigError, match=match) as caught:
        tls_of(files)
    assert caught.value.fix
    assert case == "ca" or caught.value.party == "tax"


def test_a_tls_certificate_does_not_sign(files: PartyFiles, authority):
    with pytest.raises(ConfigError, match="is a TLS certificate"):
        load_signing("tax", files.certificate, files.key, files.ca)
    trust = Trust(authority.pem)
    tls = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    with pytest.raises(AuthenticationError, match="is a TLS certificate"):
        trust.verify_signing("tax", tls.public_bytes(serialization.Encoding.DER))
    with pytest.raises(AuthenticationError, match="cannot be read"):
        trust.verify_signing("tax", b"\x30\x03hi")


def test_a_bundle_of_authorities_allows_changing_the_ca(files: PartyFiles, authority):
    other = CertificateAuthority("the next CA")
    files.ca.write_bytes(other.pem + authority.pem)
    assert tls_of(files).party == "tax"
    files.ca.write_bytes(other.pem)
    with pytest.raises(ConfigError, match="was not issued by"):
        tls_of(files)


def test_expiry_is_counted_in_days(files: PartyFiles):
    paths = [("tls", files.certificate), ("ca", files.ca)]
    now = datetime.now(UTC) + timedelta(days=360)
    soonest, last = check_expiry("tax", paths, now=now)
    assert (soonest.purpose, soonest.days_left) == ("tls", 4)
    assert last.days_left > 3000
    assert check_expiry("tax", paths[:1], now=now + timedelta(days=10))[0].days_left < 0


@pytest.mark.parametrize("name", ["", "Tax", "a b", "-tax", "tax.", "x" * 64, "税务", "tax\n"])
def test_names_that_cannot_name_a_party(name: str):
    with pytest.raises(ConfigError, match="cannot name a party"):
        check_party_name(name)


def test_a_federation_is_made_once(tmp_path: Path):
    made = make_federation(tmp_path, ["platform", "tax_bureau", "x"])
    assert {f.certificate.parent.name for f in made.values()} == {"platform", "tax_bureau", "x"}
    with pytest.raises(ConfigError, match="holds a certificate authority already"):
        make_federation(tmp_path, ["platform"])
    with pytest.raises(ConfigError, match="doubled or reserved"):
        make_federation(tmp_path / "other", ["ca"])


# --- what the same mistakes look like over a connection ------------------------------------------


def connect(uri: str, tls, hub_name: str = "platform") -> None:
    HubConnection(uri, tls, hub_name, boot=b"b" * 16, serve=False).close()


@pytest.fixture(scope="module")
def network(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("network")
    made = {
        name: authority.write_party(directory / name, name)
        for name in ("platform", "tax", "outsider", "social_security")
    }
    admitted = ["platform", "tax", "social_security"]
    hub = Hub("grpc+tls://127.0.0.1:0", tls_of(made["platform"], "platform"), admitted)
    yield uri_of(hub.port), made
    assert hub.stop()


def test_a_good_party_connects_and_an_outsider_does_not(network):
    uri, made = network
    for name in ("tax", "social_security"):
        connect(uri, tls_of(made[name], name))
    outsider = tls_of(made["outsider"], "outsider")
    for call in (connect, lambda u, t: hub_status(u, t, "platform")):
        with pytest.raises(AuthenticationError, match="does not admit outsider") as caught:
            call(uri, outsider)
        assert "[hub] parties" in caught.value.fix


def test_a_hub_of_another_name_or_ca_is_refused(network, tmp_path):
    uri, made = network
    with pytest.raises(AuthenticationError, match=r"certificate of the hub .* was refused"):
        connect(uri, tls_of(made["tax"]), "elsewhere")
    foreign = CertificateAuthority().write_party(tmp_path / "tax", "tax")
    with pytest.raises(AuthenticationError, match=r"certificate of the hub .* was refused"):
        connect(uri, tls_of(foreign))


@pytest.mark.parametrize("case", ["expired", "issuer"])
def test_a_refused_client_certificate_is_told_from_an_outage(authority, network, tmp_path, case):
    uri, _ = network
    bad = authority.write_party(tmp_path / "tax", "tax")
    tls = tls_of(bad)
    wrong(authority, case, bad)
    broken = type(tls)("tax", bad.certificate.read_bytes(), bad.key.read_bytes(), tls.ca)
    with pytest.raises(AuthenticationError, match="on seeing the certificate of tax"):
        connect(uri, broken)


def test_nobody_listens(network):
    _, made = network
    with pytest.raises(PeerUnavailable, match=r"cannot be reached \(Connection refused\)"):
        connect("grpc+tls://127.0.0.1:1", tls_of(made["tax"]))
    error = diagnose("grpc+tls://no-such-host.invalid:1", tls_of(made["tax"]), "platform")
    assert isinstance(error, PeerUnavailable)


def test_a_link_gives_up_on_refusals_but_not_on_outages(federation: Federation, authority):
    uri = uri_of(federation.hub().port)
    node = federation.node("tax", uri)
    node.link.wait_connected()
    # Another CA's hub: every attempt is refused, a bounded number of times.
    other = Hub(
        "grpc+tls://127.0.0.1:0",
        _foreign_tls(authority),
        ["platform", "tax"],
    )
    federation.later(lambda: other.stop(1.0))
    events: list[str] = []
    refused = federation.node(
        "tax", uri_of(other.port), on_event=lambda what, _: events.append(what)
    )
    with pytest.raises(AuthenticationError, match="certificate of the hub"):
        refused.run()
    # The same trouble is told once, then that it is final.
    assert events == ["disconnected", "refused"]
    with pytest.raises(AuthenticationError):
        refused.link.wait_connected(TIMEOUTS.absence)
    away = federation.node("tax", "grpc+tls://127.0.0.1:1")
    with pytest.raises(PeerUnavailable, match="Connection refused"):
        away.link.wait_connected(0.3)


def _foreign_tls(authority: CertificateAuthority):
    issued = authority.issue_tls("platform")
    from fedcredit.node.certs import TlsMaterial

    return TlsMaterial("platform", issued.certificate, issued.key, authority.pem)
