"""Takes a party's signing key from its certificate, as of the time of what it signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedcredit.errors import AuthenticationError, ConfigError

__all__ = ["signing_key"]

_STEP = "check a certificate"
_TLS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def signing_key(pem: bytes, party: str, ca: bytes, moment: float) -> Ed25519PublicKey:
    """Return the key that certificate authorities certify for a party at a time.

    Evidence outlives certificates: what counts is that the certificate was valid when its party
    recorded the entry.

    Parameters
    ----------
    pem : bytes
        The party's certificate.
    party : str
        Must be the certificate's first subject alternative name (DNS).
    ca : bytes
        PEM of the authorities to trust.
    moment : float
        Seconds since the epoch.

    Raises
    ------
    AuthenticationError
        It is not ``party``'s signing certificate of that time under these authorities.
    ConfigError
        ``ca`` cannot be read.
    """
    try:
        authorities = x509.load_pem_x509_certificates(ca)
    except ValueError:
        raise ConfigError(
            "the CA certificates cannot be read.", step=_STEP, fix="give PEM certificates"
        ) from None
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
        extensions = certificate.extensions
        at = datetime.fromtimestamp(moment, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        _refuse(party, "cannot be read")
    if not isinstance(key, Ed25519PublicKey) or _serves_tls(extensions):
        _refuse(party, "is none for signing")
    if _first_name(extensions) != party:
        _refuse(party, "is another party's")
    if not _valid(certificate, at):
        _refuse(party, "was not valid at that time")
    if not any(
        _issued(certificate, authority) and _valid(authority, at) for authority in authorities
    ):
        _refuse(party, "was not issued by these certificate authorities")
    return key


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        if not authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return True


def _valid(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc


def _first_name(extensions: x509.Extensions) -> str | None:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    first = next(iter(names), None)
    return first.value if isinstance(first, x509.DNSName) else None


def _serves_tls(extensions: x509.Extensions) -> bool:
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return bool(_TLS & set(usage))


def _refuse(party: str, why: str) -> NoReturn:
    raise AuthenticationError(
        f"the certificate of {party} {why}.",
        step=_STEP,
        fix="take the certificate that the party had then, and the federation's CA certificate",
    ) from None
