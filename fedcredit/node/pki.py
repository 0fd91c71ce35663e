"""Makes the certificates of a test federation: one CA, two certificates for every party.

A real federation gets its certificates from the CA that its members trust; what they must
contain is what :func:`make_federation` writes and :mod:`fedcredit.node.certs` checks.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcredit.errors import ConfigError, KeyMaterialError
from fedcredit.governance.section import check_party_name

__all__ = [
    "SIGNING_USAGE",
    "CertificateAuthority",
    "PartyFiles",
    "make_federation",
    "write_private",
]

#: Extended key usage of a signing certificate: it must not serve as a TLS certificate.
#: An identifier under 2.25 needs no registration (ITU-T X.667, a UUID as the arc).
SIGNING_USAGE = x509.ObjectIdentifier("2.25.293870846331408310963117407424098712513")

_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
#: Certificates start this long ago, so that a party whose clock is a little slow accepts them.
_BACKDATE = timedelta(minutes=10)


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that only its owner may read (``mode``), replacing it in one step."""
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True)
class PartyFiles:
    """Where a party's certificates and keys were written."""

    party: str
    certificate: Path
    key: Path
    signing_certificate: Path
    signing_key: Path
    ca: Path


@dataclass(frozen=True)
class _Issued:
    certificate: bytes
    key: bytes = field(repr=False)


class CertificateAuthority:
    """A certificate authority of its own (ECDSA P-256) for tests and pilots.

    Parameters
    ----------
    name : str
        Common name.
    days : int
        Days of validity.
    now : datetime, optional
        The moment of issue (UTC); tests of expiry set it.
    """

    def __init__(
        self, name: str = "fedcredit test CA", *, days: int = 3650, now: datetime | None = None
    ) -> None:
        self._now = now or datetime.now(UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = self._key.public_key()
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _BACKDATE)
            .not_valid_after(self._now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def __repr__(self) -> str:
        return "CertificateAuthority()"

    def __reduce__(self) -> NoReturn:
        raise KeyMaterialError("a certificate authority's key cannot be pickled.")

    @property
    def pem(self) -> bytes:
        """The CA certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def private_pem(self) -> bytes:
        """Return the CA's private key, PKCS8 PEM, unencrypted."""
        return _private_pem(self._key)

    def issue_tls(
        self,
        party: str,
        *,
        hosts: Sequence[str] = ("localhost", "127.0.0.1"),
        days: int = 365,
        now: datetime | None = None,
    ) -> _Issued:
        """Issue a TLS certificate (ECDSA P-256, server and client use).

        The first subject alternative name is ``DNS:<party>``: the hub takes a connection's
        party from there.
        """
        names: list[x509.GeneralName] = [x509.DNSName(party)]
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(party, ec.generate_private_key(ec.SECP256R1()), names, usage, days, now)

    def issue_signing(self, party: str, *, days: int = 365, now: datetime | None = None) -> _Issued:
        """Issue a signing certificate (Ed25519, RFC 8032 and RFC 8410)."""
        names: list[x509.GeneralName] = [x509.DNSName(party)]
        key = ed25519.Ed25519PrivateKey.generate()
        return self._issue(party, key, names, [SIGNING_USAGE], days, now)

    def _issue(
        self,
        party: str,
        key: _PrivateKey,
        names: list[x509.GeneralName],
        usage: list[x509.ObjectIdentifier],
        days: int,
        now: datetime | None,
    ) -> _Issued:
        check_party_name(party)
        start = now or self._now
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - _BACKDATE)
            .not_valid_after(start + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return _Issued(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))

    def write_party(
        self,
        directory: Path,
        party: str,
        *,
        hosts: Sequence[str] = ("localhost", "127.0.0.1"),
        days: int = 365,
        now: datetime | None = None,
    ) -> PartyFiles:
        """Issue both certificates of a party and write them with their keys (mode 0600)."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = PartyFiles(
            party,
            directory / "tls.pem",
            directory / "tls.key",
            directory / "signing.pem",
            directory / "signing.key",
            directory / "ca.pem",
        )
        tls = self.issue_tls(party, hosts=hosts, days=days, now=now)
        signing = self.issue_signing(party, days=days, now=now)
        write_private(files.key, tls.key)
        write_private(files.signing_key, signing.key)
        write_private(files.certificate, tls.certificate, mode=0o644)
        write_private(files.signing_certificate, signing.certificate, mode=0o644)
        write_private(files.ca, self.pem, mode=0o644)
        return files


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: _PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def make_federation(
    directory: Path,
    parties: Sequence[str],
    *,
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    days: int = 365,
) -> dict[str, PartyFiles]:
    """Make a CA and every party's certificates under ``directory``.

    ``directory/ca/ca.pem`` and ``ca.key`` are the CA's; ``directory/<party>/`` holds what that
    party, and nobody else, receives. The CA's key should leave the machine afterwards.

    Parameters
    ----------
    directory : Path
        Made if it is not there.
    parties : sequence of str
        Names; see :func:`check_party_name`.
    hosts : sequence of str
        Host names and addresses at which parties may be reached.
    days : int
        Validity of the parties' certificates.

    Returns
    -------
    dict of party name to PartyFiles

    Raises
    ------
    ConfigError
        A name is unusable or doubled, or the directory holds a CA already.
    """
    names = [check_party_name(name) for name in parties]
    if len(set(names)) != len(names) or "ca" in names:
        raise ConfigError(
            "a party's name is doubled or reserved.",
            step="make certificates",
            fix='give every party a name of its own, not "ca"',
        )
    ca_directory = directory / "ca"
    if (ca_directory / "ca.key").exists():
        raise ConfigError(
            f"{ca_directory} holds a certificate authority already.",
            step="make certificates",
            fix="choose another directory, or remove that one",
        )
    authority = CertificateAuthority(days=max(3650, days))
    try:
        ca_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(ca_directory / "ca.key", authority.private_pem())
        write_private(ca_directory / "ca.pem", authority.pem, mode=0o644)
        return {
            name: authority.write_party(directory / name, name, hosts=hosts, days=days)
            for name in names
        }
    except OSError as error:
        raise ConfigError(
            f"{directory} cannot be written ({error.strerror}).", step="make certificates"
        ) from error
