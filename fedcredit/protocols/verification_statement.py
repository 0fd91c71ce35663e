"""What a provider signs about one verification, and how anybody checks it later.

A statement is canonical JSON under the provider's Ed25519 key (RFC 8032), signed as
``"fedcredit/statement/1" | 0 | statement``. The enterprise stands in it as
HMAC-SHA256(salt, USCC) with 32 random bytes of salt, so whoever finds a statement alone cannot
tell about whom it is; the institution has the salt and shows it to whom it must.

For a predicate of the menu the statement holds the answer. For a declared value it holds the
digest of ciphertexts, because the provider does not know the outcome: the institution proves to
an auditor or a court how they decrypt (:func:`open_statement`), and can prove nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import Certificate

from fedcredit.crypto import elgamal
from fedcredit.crypto.sigma import prove_decryption, verify_decryption
from fedcredit.errors import AuthenticationError, CryptoError, InputError, Refusal
from fedcredit.protocols.verification_messages import (
    canonical,
    canonical_arguments,
    from_canonical,
)
from fedcredit.wire import Identity

__all__ = [
    "SALT_BYTES",
    "DeclaredPart",
    "Outcome",
    "Statement",
    "open_statement",
    "prove_opening",
    "response_digest",
    "sign_statement",
    "subject_commitment",
    "verify_statement",
]

SALT_BYTES: Final = 32
#: ``yes`` and ``no`` are also "matches" and "does not match" of a declared value.
Outcome = Literal["yes", "no", "no_record"]

_STEP: Final = "verify"
_VERSION: Final = 1
_DOMAIN: Final = b"fedcredit/statement/1\x00"
_RESPONSE_TAG: Final = b"fedcredit/verify/response/1\x00"
_OPENING_TAG: Final = b"fedcredit/verify/opening/1\x00"


@dataclass(frozen=True)
class DeclaredPart:
    """What a statement says about a comparison with a declared value.

    Attributes
    ----------
    declaration : str
        Id of the enterprise's credit commitment; empty if the institution typed the value.
    tolerance : int
        In steps of the predicate's resolution.
    key : str
        The institution's public key of this question, 64 hexadecimal digits.
    response : str
        SHA-256 of the ciphertexts, 64 hexadecimal digits.
    no_record : bool
        The provider has no record of the enterprise; then the ciphertexts are of random elements.
    """

    declaration: str
    tolerance: int
    key: str
    response: str
    no_record: bool


@dataclass(frozen=True)
class Statement:
    """What a provider states about one enterprise, without naming it.

    Attributes
    ----------
    provider, institution : str
    request : str
        Digest of the request, hexadecimal.
    purpose : str
    predicate : str
        As ``provider.id``.
    text : str
        The predicate in words, arguments filled in.
    arguments : str
        The same arguments as canonical JSON.
    consent : str
        Hash of the consent's id, hexadecimal.
    subject : str
        Salted commitment to the enterprise, hexadecimal.
    as_of : str
        Date of the data, ``YYYY-MM-DD``.
    time : int
        When it was answered, in seconds since the epoch (UTC).
    entry : int
        Number of the entry in the provider's audit log.
    answer : str
        ``yes``, ``no`` or ``no_record``; empty for a declared value.
    declared : DeclaredPart or None
    """

    provider: str
    institution: str
    request: str
    purpose: str
    predicate: str
    text: str
    arguments: str
    consent: str
    subject: str
    as_of: str
    time: int
    entry: int
    answer: Outcome | Literal[""] = ""
    declared: DeclaredPart | None = None

    def to_bytes(self) -> bytes:
        """Write the statement as canonical JSON."""
        values: dict[str, Any] = dict(vars(self))
        values["version"] = _VERSION
        values["arguments"] = from_canonical(self.arguments.encode())
        values["declared"] = None if self.declared is None else dict(vars(self.declared))
        return canonical(values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """Read a statement; the signature is checked by :func:`verify_statement`.

        Raises
        ------
        AuthenticationError
            It is no statement of this version in canonical form.
        """
        try:
            values = from_canonical(data)
            version, declared = values.pop("version", None), values.get("declared")
            arguments = values.get("arguments")
            if not isinstance(arguments, dict) or version != _VERSION:
                raise _unreadable()
            values["arguments"] = canonical_arguments(arguments)
            if isinstance(declared, dict):
                values["declared"] = DeclaredPart(**declared)
            statement = cls(**values)
        except (Refusal, TypeError):
            raise _unreadable() from None
        if not _well_typed(statement):
            raise _unreadable()
        return statement


def _well_typed(statement: Statement) -> bool:
    values = dict(vars(statement))
    declared, answer = values.pop("declared"), values["answer"]
    numbers = [values.pop("time"), values.pop("entry")]
    texts = list(values.values())
    if declared is not None:
        if not isinstance(declared, DeclaredPart) or type(declared.no_record) is not bool:
            return False
        numbers.append(declared.tolerance)
        texts += [declared.declaration, declared.key, declared.response]
    # Exactly one of an answer and a comparison.
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and all(type(text) is str for text in texts)
        and (answer == "" if declared is not None else answer in get_args(Outcome))
    )


def _unreadable() -> AuthenticationError:
    return AuthenticationError(
        "what was signed is no statement in canonical form.",
        step=_STEP,
        fix="check that it is the file that the provider's answer was stored in",
    )


def subject_commitment(subject: str, salt: bytes) -> str:
    """Commit to an enterprise: HMAC-SHA256 under 32 random bytes, as hexadecimal text.

    Raises
    ------
    InputError
        The salt has another length.
    """
    if len(salt) != SALT_BYTES:
        raise InputError(f"a salt has {SALT_BYTES} bytes.", step=_STEP)
    return hmac.new(salt, subject.encode(), hashlib.sha256).hexdigest()


def response_digest(response: bytes) -> str:
    """Return the digest of a response's ciphertexts, as hexadecimal text."""
    return hashlib.sha256(_RESPONSE_TAG + response).hexdigest()


def sign_statement(identity: Identity, statement: Statement) -> tuple[bytes, bytes]:
    """Write and sign a statement.

    Returns
    -------
    statement : bytes
        Canonical JSON.
    signature : bytes
        Ed25519, 64 bytes.
    """
    data = statement.to_bytes()
    return data, identity.sign(_DOMAIN + data)


def verify_statement(
    statement: bytes, signature: bytes, key: Ed25519PublicKey | Certificate
) -> Statement:
    """Check a provider's signature on a statement and read it.

    Parameters
    ----------
    statement : bytes
        As received; not written anew.
    signature : bytes
    key : Ed25519PublicKey or Certificate
        The provider's. That the certificate is the provider's, and was valid at the statement's
        time, is for the caller to check.

    Returns
    -------
    Statement

    Raises
    ------
    AuthenticationError
        The signature is not the provider's, or what it signs is no statement.
    """
    public = key.public_key() if isinstance(key, Certificate) else key
    if not isinstance(public, Ed25519PublicKey):
        raise AuthenticationError(
            "the certificate holds no Ed25519 key.",
            step=_STEP,
            fix="use the certificate of the provider's node",
        )
    try:
        public.verify(signature, _DOMAIN + statement)
    except (InvalidSignature, TypeError):
        raise AuthenticationError(
            "the signature of a statement does not check.",
            step=_STEP,
            fix="use the certificate of the provider that the statement names",
        ) from None
    return Statement.from_bytes(statement)


# ---------------------------------------------------------------------------- declared values


def _opening_context(statement: bytes) -> bytes:
    return hashlib.sha256(_OPENING_TAG + statement).digest()


def prove_opening(key: elgamal.DecryptionKey, statement: bytes, response: bytes) -> bytes:
    """Prove how the ciphertexts of a statement decrypt, for :func:`open_statement`.

    Parameters
    ----------
    key : DecryptionKey
        The institution's key of the question; it is not needed any more afterwards.
    statement, response : bytes
        As the provider signed and sent them.

    Returns
    -------
    bytes
        To be kept with the statement. It opens the outcome to whoever reads it, and no more.
    """
    return prove_decryption(key, elgamal.split(response), _opening_context(statement))


def open_statement(
    statement: bytes,
    signature: bytes,
    key: Ed25519PublicKey | Certificate,
    *,
    response: bytes = b"",
    opening: bytes = b"",
) -> tuple[Statement, Outcome]:
    """Check a statement as an auditor or a court does, and read its outcome.

    Needs nothing secret. An institution cannot turn a match into a mismatch or the reverse: the
    provider signed the ciphertexts and the key, and the proof covers all of them.

    Parameters
    ----------
    statement, signature : bytes
        As the provider made them.
    key : Ed25519PublicKey or Certificate
        The provider's.
    response, opening : bytes
        For a declared value: the ciphertexts, and the institution's proof of how they decrypt.

    Returns
    -------
    statement : Statement
    outcome : {"yes", "no", "no_record"}

    Raises
    ------
    AuthenticationError
        The signature does not check, the ciphertexts are not those of the statement, or the proof
        does not hold.
    """
    stated = verify_statement(statement, signature, key)
    declared = stated.declared
    if declared is None:
        assert stated.answer  # exactly one of both is there, see `_well_typed`
        return stated, stated.answer
    if not hmac.compare_digest(response_digest(response), declared.response):
        raise _not_opened("the ciphertexts are not those of the statement")
    if declared.no_record:
        return stated, "no_record"
    try:
        ciphertexts = elgamal.split(response)
        zeros = verify_decryption(
            bytes.fromhex(declared.key), ciphertexts, opening, _opening_context(statement)
        )
    except (CryptoError, ValueError):
        raise _not_opened("the proof of how they decrypt does not hold") from None
    return stated, "yes" if any(zeros) else "no"


def _not_opened(why: str) -> AuthenticationError:
    return AuthenticationError(
        f"a statement about a declared value cannot be opened: {why}.",
        step=_STEP,
        fix="ask the institution for the response and opening that belong to the statement",
    )
