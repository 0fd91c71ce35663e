"""Signed tokens of enterprises: compact JWS (RFC 7515) of JSON claims, read without any leniency.

One algorithm, ``EdDSA`` with Ed25519 keys (RFC 8037), one spelling per token, one set of claims per
kind. What standards leave to the reader is refused here: other algorithms, other header
parameters (``crit``, ``jwk``, ``jku``, ``x5c``), padded or non-canonical base64url, duplicate
members of a JSON object, floating-point numbers, claims that the kind does not know (see RFC 8725
on how each of these has been abused). So a token's digest stands for its content.

joserfc makes and checks the signatures. Its claims registry is not used: it accepts further
claims, lists of audiences and fractional times, all of which are refused here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from fedcredit.errors import Refusal

__all__ = [
    "ALGORITHM",
    "CLOCK_SKEW",
    "CONSENT",
    "DECLARATION",
    "MAX_TOKEN_CHARACTERS",
    "REVOCATION",
    "SignedToken",
    "TokenKind",
    "b64url",
    "b64url_decode",
    "check_id",
    "check_signature",
    "check_subject",
    "check_time",
    "read_token",
    "sign_token",
    "thumbprint",
    "token_digest",
]

#: The one accepted ``alg``; with it only Ed25519 keys are ever used.
ALGORITHM: Final = "EdDSA"
#: Seconds by which the clocks of an enterprise and a party may differ.
CLOCK_SKEW: Final = 60
MAX_TOKEN_CHARACTERS: Final = 8192
#: Times lie before the year 5138, so that they are exact as floating-point numbers too.
_MAX_TIME: Final = 10**11
_MAX_INTEGER_DIGITS: Final = 19

_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_ID: Final = re.compile(r"[0-9a-f]{32}")
#: A USCC, or one of the older codes that :mod:`fedcredit.uscc` keeps, in normalised spelling.
_SUBJECT: Final = re.compile(r"[0-9A-Z]{9,18}")
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True)
class TokenKind:
    """What one kind of token must look like, and how refusals of it are coded.

    Attributes
    ----------
    typ : str
        The header's ``typ``.
    name : str
        In errors.
    claims : frozenset of str
        Exactly these.
    malformed, signature, key : str
        Codes of :data:`~fedcredit.governance.codes.CODES`.
    """

    typ: str
    name: str
    claims: frozenset[str]
    malformed: str
    signature: str
    key: str

    def refuse(self, reason: str, code: str | None = None, fix: str | None = None) -> NoReturn:
        """Raise the refusal of a token of this kind; by default as malformed."""
        raise Refusal(
            f"the {self.name} {reason}.",
            code=code or self.malformed,
            step=self.name,
            fix=fix or f"ask the enterprise for a new {self.name}",
        )


CONSENT: Final = TokenKind(
    "fedcredit-consent+jwt",
    "consent",
    frozenset(["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "purpose", "scope", "max_uses"]),
    "consent_malformed",
    "consent_signature",
    "consent_key",
)
REVOCATION: Final = TokenKind(
    "fedcredit-revocation+jwt",
    "revocation",
    frozenset(["iss", "sub", "iat", "jti"]),
    "consent_malformed",
    "consent_signature",
    "consent_key",
)
DECLARATION: Final = TokenKind(
    "fedcredit-declaration+jwt",
    "declaration",
    frozenset(["iss", "sub", "iat", "exp", "jti", "pledge", "items"]),
    "declaration_invalid",
    "declaration_invalid",
    "declaration_invalid",
)


@dataclass(frozen=True)
class SignedToken:
    """A token that was read but whose signature has not been checked yet.

    Attributes
    ----------
    kind : TokenKind
    text : str
        The token itself; whoever holds it can present it, so it stays out of logs.
    kid : str
        Thumbprint of the key that is said to have signed.
    claims : mapping
    digest : bytes
        SHA-256 of the text.
    """

    kind: TokenKind
    text: str = field(repr=False)
    kid: str
    claims: Mapping[str, Any] = field(repr=False)
    digest: bytes


class _PinnedRegistry(jws.JWSRegistry):
    """Gives out EdDSA and nothing else.

    joserfc warns at every use of ``EdDSA`` because RFC 9864 deprecates an identifier that leaves
    the curve open. Here it is not open: keys of another curve never reach a signature.
    """

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"only {ALGORITHM} is accepted")
        return self.algorithms[ALGORITHM]


_REGISTRY: Final = _PinnedRegistry(algorithms=[ALGORITHM])


def b64url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Decode base64url without padding, in its one canonical spelling.

    Raises
    ------
    ValueError
        Anything else; the message does not quote the text.
    """
    if not _PART.fullmatch(text):
        raise ValueError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
    # The last character may carry bits that decoding drops: they must be zero.
    if b64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def thumbprint(public_key: bytes) -> str:
    """Return the JWK thumbprint of an Ed25519 key (RFC 7638; RFC 8037, appendix A.3).

    Parameters
    ----------
    public_key : bytes
        32 bytes.

    Returns
    -------
    str
        43 characters of base64url.
    """
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{b64url(public_key)}"}}'
    return b64url(hashlib.sha256(jwk.encode("ascii")).digest())


def token_digest(text: str) -> bytes:
    """Return the SHA-256 of a token's text, by which it is referred to."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def sign_token(kind: TokenKind, claims: Mapping[str, Any], key: Ed25519PrivateKey, kid: str) -> str:
    """Make a token.

    Parameters
    ----------
    kind : TokenKind
    claims : mapping
        All claims of the kind.
    key : Ed25519PrivateKey
    kid : str
        Thumbprint of its public half.

    Returns
    -------
    str
        The compact serialisation.
    """
    payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    header = {"alg": ALGORITHM, "kid": kid, "typ": kind.typ}
    return jws.serialize_compact(header, payload, OKPKey.import_key(key), registry=_REGISTRY)


def read_token(text: str, kind: TokenKind) -> SignedToken:
    """Read a token strictly, without checking its signature.

    Parameters
    ----------
    text : str
    kind : TokenKind
        The only kind accepted.

    Returns
    -------
    SignedToken
        With exactly the kind's claims; their values are the caller's to check.

    Raises
    ------
    Refusal
        With the kind's code for malformed tokens.
    """
    if not isinstance(text, str) or len(text) > MAX_TOKEN_CHARACTERS:
        kind.refuse("is no text, or too long")
    parts = text.split(".")
    if len(parts) != 3:
        kind.refuse("is not in the compact serialisation")
    try:
        header, payload, signature = (b64url_decode(part) for part in parts)
        head, claims = _strict_json(header), _strict_json(payload)
    except (ValueError, RecursionError):
        kind.refuse("cannot be decoded")
    if len(signature) != _SIGNATURE_BYTES:
        kind.refuse("has a signature of another length")
    if set(head) != {"alg", "typ", "kid"} or head["alg"] != ALGORITHM or head["typ"] != kind.typ:
        kind.refuse("has another algorithm, type or header")
    kid = head["kid"]
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        kind.refuse("names its key in another form")
    if set(claims) != kind.claims:
        kind.refuse("has other claims than its kind")
    return SignedToken(kind, text, kid, claims, token_digest(text))


def check_signature(token: SignedToken, public_key: bytes) -> None:
    """Check a token's signature.

    Parameters
    ----------
    token : SignedToken
    public_key : bytes
        The key whose thumbprint is the token's ``kid``, from the party's own registry.

    Raises
    ------
    Refusal
        With the kind's code for signatures.
    """
    key = OKPKey.import_key(Ed25519PublicKey.from_public_bytes(public_key))
    try:
        jws.deserialize_compact(token.text, key, registry=_REGISTRY)
    except JoseError:
        token.kind.refuse("has a signature that does not check", token.kind.signature)


def check_subject(token: SignedToken) -> str:
    """Return the subject of a token, which must be its issuer as well."""
    subject = token.claims["sub"]
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        token.kind.refuse("names no enterprise")
    if token.claims["iss"] != subject:
        token.kind.refuse("is not issued by its subject")
    return subject


def check_id(token: SignedToken) -> str:
    """Return the ``jti``: 128 bits in lower-case hexadecimal."""
    value = token.claims["jti"]
    if not isinstance(value, str) or not _ID.fullmatch(value):
        token.kind.refuse("has an id of another form")
    return value


def check_time(token: SignedToken, claim: str) -> int:
    """Return a time claim: whole seconds since the epoch."""
    value = token.claims[claim]
    if type(value) is not int or not 0 < value < _MAX_TIME:
        token.kind.refuse(f"has no whole number of seconds as {claim!r}")
    return value


def _strict_json(data: bytes) -> dict[str, Any]:
    value = json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_distinct,
        parse_int=_integer,
        parse_float=_refuse_number,
        parse_constant=_refuse_number,
    )
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate member")
    return made


def _integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_DIGITS:
        raise ValueError("integer too long")
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError("not an integer")
