"""Loads and checks certificates: a party's own files, and what its peers present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedcredit.errors import AuthenticationError, ConfigError, KeyMaterialError
from fedcredit.wire import Identity

__all__ = [
    "CertificateStatus",
    "Credentials",
    "TlsMaterial",
    "Trust",
    "check_expiry",
    "load_signing",
    "load_tls",
]

_Problem = tuple[str, str]
_DER = serialization.Encoding.DER
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


class TlsMaterial:
    """A party's TLS certificate and key and the CAs it trusts, as PEM bytes.

    Attributes
    ----------
    party : str
    certificate, ca : bytes
        PEM.
    """

    def __init__(self, party: str, certificate: bytes, key: bytes, ca: bytes) -> None:
        self.party = party
        self.certificate = certificate
        self.ca = ca
        self._key = key

    def private_pem(self) -> bytes:
        """Return the private key, PKCS8 PEM (for the TLS library only)."""
        return self._key

    def __repr__(self) -> str:
        return f"TlsMaterial({self.party!r})"

    def __reduce__(self) -> NoReturn:
        raise KeyMaterialError("TLS keys cannot be pickled.", party=self.party)


@dataclass(frozen=True)
class Credentials:
    """How a party signs in sessions, and whose certificates it accepts there.

    Attributes
    ----------
    identity : Identity
        Name and Ed25519 key.
    certificate : bytes
        The key's certificate, DER.
    trust : Trust
    """

    identity: Identity
    certificate: bytes
    trust: Trust

    @property
    def party(self) -> str:
        """The party's name."""
        return self.identity.name


@dataclass(frozen=True)
class CertificateStatus:
    """How long a certificate is still good for."""

    party: str
    purpose: str
    path: Path
    expires: datetime
    days_left: int


class Trust:
    """The certificate authorities that a federation trusts.

    Parameters
    ----------
    pem : bytes
        One or several CA certificates; a party's certificate must be issued by one of them.
    where : str
        Names the source in errors.

    Raises
    ------
    ConfigError
        No CA certificate can be read.
    """

    def __init__(self, pem: bytes, *, where: str = "the CA certificates") -> None:
        try:
            self._authorities = x509.load_pem_x509_certificates(pem)
        except ValueError:
            raise ConfigError(
                f"{where} cannot be read.", step="read certificates", fix="give PEM certificates"
            ) from None
        if not all(_is_ca(certificate) for certificate in self._authorities):
            raise ConfigError(
                f"{where} contain a certificate that is no certificate authority's.",
                step="read certificates",
                fix="point [tls] ca at the CA's certificate, not at a party's",
            )

    def verify_signing(
        self, party: str, der: bytes, *, now: datetime | None = None
    ) -> Ed25519PublicKey:
        """Check a peer's signing certificate and return its key.

        Parameters
        ----------
        party : str
            Who presents it.
        der : bytes
        now : datetime, optional
            When it must have been valid; now by default.

        Raises
        ------
        AuthenticationError
            It is not ``party``'s valid signing certificate under these authorities.
        """
        try:
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
        except (ValueError, TypeError):
            raise AuthenticationError(
                "a signing certificate cannot be read.", party=party, step="open a session"
            ) from None
        problem = self.problem(certificate, party, signing=True, now=now)
        if problem is not None or not isinstance(key, Ed25519PublicKey):
            reason, fix = problem or ("holds no Ed25519 key", "issue an Ed25519 certificate")
            raise AuthenticationError(
                f"the signing certificate of {party} {reason}.",
                party=party,
                step="open a session",
                fix=fix,
            )
        return key

    def problem(
        self,
        certificate: x509.Certificate,
        party: str,
        *,
        signing: bool,
        now: datetime | None = None,
    ) -> _Problem | None:
        """Return what is wrong with a certificate and how to mend it, or None."""
        now = now or datetime.now(UTC)
        if now < certificate.not_valid_before_utc:
            start = _day(certificate.not_valid_before_utc)
            return f"is not valid before {start}", "set this machine's clock, or wait"
        if now > certificate.not_valid_after_utc:
            end = _day(certificate.not_valid_after_utc)
            return f"expired on {end}", f"have a new certificate issued for {party}"
        name = _first_name(certificate)
        if name != party:
            found = f"is for {name!r}" if name else "names no party"
            return (
                f"{found}, not for {party!r}",
                f"use {party}'s certificate, whose first subject alternative name is DNS:{party}",
            )
        problem = _usage_problem(certificate, signing=signing)
        return problem or self._issuer_problem(certificate, now)

    def _issuer_problem(self, certificate: x509.Certificate, now: datetime) -> _Problem | None:
        for authority in self._authorities:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            if authority.not_valid_before_utc <= now <= authority.not_valid_after_utc:
                return None
            return "comes from a CA whose own certificate has expired", "renew the CA certificate"
        return (
            "was not issued by the federation's CA",
            "use a certificate of that CA, or correct [tls] ca",
        )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _first_name(certificate: x509.Certificate) -> str | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    first = next(iter(names), None)
    return first.value if isinstance(first, x509.DNSName) else None


def _usage_problem(certificate: x509.Certificate, *, signing: bool) -> _Problem | None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    tls = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if signing and tls & set(usage):
        return "is a TLS certificate", "use the party's signing certificate (Ed25519)"
    if not signing and not tls <= set(usage):
        return (
            "does not allow both TLS server and client use",
            "issue it with extendedKeyUsage = serverAuth, clientAuth",
        )
    return None


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _read(path: Path, what: str, party: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the {what} {path} cannot be read ({error.strerror}).",
            party=party,
            step="read certificates",
            fix="correct the path in the configuration file, or the file's permissions",
        ) from None


def _load_pair(
    party: str, certificate: Path, key: Path, ca: Path, *, signing: bool
) -> tuple[x509.Certificate, object, bytes, bytes, Trust]:
    kind = "signing" if signing else "TLS"
    pem = _read(certificate, f"{kind} certificate", party)
    key_pem = _read(key, f"{kind} key", party)
    trust = Trust(_read(ca, "CA certificate", party), where=f"the CA certificates in {ca}")

    def refuse(path: Path, reason: str, fix: str) -> NoReturn:
        raise ConfigError(
            f"the {kind} file {path} {reason}.", party=party, step="read certificates", fix=fix
        ) from None

    try:
        loaded = x509.load_pem_x509_certificate(pem)
        public = loaded.public_key()
    except (ValueError, TypeError):
        refuse(certificate, "is no certificate", "give a PEM certificate")
    try:
        private = serialization.load_pem_private_key(key_pem, None)
    except TypeError:
        refuse(key, "is encrypted", "store the key unencrypted, readable by this user alone (0600)")
    except ValueError:
        refuse(key, "is no private key", "give an unencrypted PKCS8 PEM key")
    problem = trust.problem(loaded, party, signing=signing)
    if problem is not None:
        refuse(certificate, *problem)
    if private.public_key().public_bytes(_DER, _SPKI) != public.public_bytes(_DER, _SPKI):
        refuse(key, f"does not belong to {certificate}", "use the key the certificate was made for")
    if key.stat().st_mode & 0o077:
        refuse(key, "can be read by other users", f"chmod 600 {key}")
    return loaded, private, pem, key_pem, trust


def load_tls(party: str, certificate: Path, key: Path, ca: Path) -> TlsMaterial:
    """Load and check a party's TLS files.

    Raises
    ------
    ConfigError
        A file is missing or unreadable, or the certificate is expired, not yet valid, another
        party's, of another CA, or does not fit the key; file and remedy are named.
    """
    _, _, pem, key_pem, _ = _load_pair(party, certificate, key, ca, signing=False)
    return TlsMaterial(party, pem, key_pem, _read(ca, "CA certificate", party))


def load_signing(party: str, certificate: Path, key: Path, ca: Path) -> Credentials:
    """Load and check a party's signing files; errors as in :func:`load_tls`."""
    loaded, private, _, _, trust = _load_pair(party, certificate, key, ca, signing=True)
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(
            f"the signing key {key} is no Ed25519 key.",
            party=party,
            step="read certificates",
            fix="have an Ed25519 signing certificate issued",
        )
    return Credentials(Identity(party, private), loaded.public_bytes(_DER), trust)


def check_expiry(
    party: str, paths: Sequence[tuple[str, Path]], *, now: datetime | None = None
) -> list[CertificateStatus]:
    """Return how long certificates are still good for, the soonest to expire first.

    Parameters
    ----------
    party : str
    paths : sequence of (purpose, path)
        PEM files; every certificate in them counts.
    now : datetime, optional

    Raises
    ------
    ConfigError
        A file cannot be read.
    """
    now = now or datetime.now(UTC)
    found = []
    for purpose, path in paths:
        try:
            certificates = x509.load_pem_x509_certificates(_read(path, f"{purpose} file", party))
        except ValueError:
            raise ConfigError(
                f"{path} is no certificate.", party=party, step="read certificates"
            ) from None
        for certificate in certificates:
            expires = certificate.not_valid_after_utc
            found.append(CertificateStatus(party, purpose, path, expires, (expires - now).days))
    return sorted(found, key=lambda status: status.expires)
