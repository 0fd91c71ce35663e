"""Receipts: what every party signs of a score, for the institution to show to a supervisor.

Each party signs its own statement: over the request, the consents, the model, the ciphertext that
it gave and the number of its log entry. The platform's also covers the ciphertext that all of them
add up to, and the header of the model. A receipt is the statements together, with the certificates
that the signatures are to be checked with. It holds no id of an enterprise and no score.

The signature is Ed25519 (RFC 8032) over ``"fedcredit/receipt/1"``, a zero byte and the statement in
canonical JSON: keys sorted, no blanks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.errors import AuthenticationError, InputError
from fedcredit.models.scoring.served import ServedModel
from fedcredit.wire import Identity

__all__ = [
    "PartStatement",
    "Receipt",
    "canonical",
    "consents_digest",
    "sign_statement",
]

_DOMAIN = b"fedcredit/receipt/1\0"
_STEP = "receipt"
_FORMAT = "fedcredit.receipt/1"
_MAX_BYTES = 64 << 10


def canonical(data: Any) -> bytes:
    """Return canonical JSON: keys sorted, no blanks, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def consents_digest(consents: Sequence[bytes]) -> str:
    """Return SHA-256 over the hashes of all consents' ids, in the order of the subjects."""
    return hashlib.sha256(b"".join(consents)).hexdigest()


def sign_statement(signer: Identity, statement: Mapping[str, Any]) -> bytes:
    """Return a signed statement as it travels: its canonical JSON and the signature."""
    body = canonical(dict(statement))
    return canonical(
        {
            "statement": body.decode("ascii"),
            "signature": base64.b64encode(signer.sign(_DOMAIN + body)).decode("ascii"),
        }
    )


@dataclass(frozen=True)
class PartStatement:
    """One party's signed statement, read but perhaps not yet verified."""

    values: Mapping[str, Any]
    body: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def read(cls, data: bytes, *, party: str | None = None) -> PartStatement:
        """Read what :func:`sign_statement` wrote.

        Raises
        ------
        AuthenticationError
            It is something else.
        """
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError
            outer = json.loads(data)
            body = outer["statement"].encode("ascii")
            values = json.loads(body)
            if set(outer) != {"statement", "signature"} or canonical(values) != body:
                raise ValueError
            signature = base64.b64decode(outer["signature"], validate=True)
            return cls(dict(values), body, signature)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise AuthenticationError(
                "a signed statement is malformed.", party=party, step=_STEP
            ) from None

    def verify(self, key: Ed25519PublicKey, *, party: str) -> None:
        """Check the signature, and that the statement is this party's.

        Raises
        ------
        AuthenticationError
            It does not check.
        """
        try:
            key.verify(self.signature, _DOMAIN + self.body)
        except InvalidSignature:
            raise AuthenticationError(
                f"the statement of {party} has an invalid signature.", party=party, step=_STEP
            ) from None
        self.expect(party, party=party)

    def expect(self, of: str, **values: Any) -> None:
        """Check that the statement says so.

        Raises
        ------
        AuthenticationError
            It says something else.
        """
        for name, value in values.items():
            if self.values.get(name) != value:
                raise AuthenticationError(
                    f"the statement of {of} is about another {name}.", party=of, step=_STEP
                )


@dataclass(frozen=True)
class Receipt:
    """The signed statements of all parties of one score or batch.

    Attributes
    ----------
    header : ServedModel
    statements : dict of str to bytes
        By party, as they travelled.
    seal : bytes
        The platform's signed statement about the sums that it sent.
    certificates : dict of str to bytes
        Signing certificates (DER) by party; empty in simulations, whose keys have none.
    """

    header: ServedModel
    statements: Mapping[str, bytes] = field(repr=False)
    seal: bytes = field(repr=False)
    certificates: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def verify(self, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, dict[str, Any]]:
        """Check every signature and that all parties speak of the same request and model.

        Parameters
        ----------
        keys : mapping of party to Ed25519PublicKey

        Returns
        -------
        dict of str to dict
            What each party states.

        Raises
        ------
        AuthenticationError
            A party's statement is missing, forged, or about something else.
        """
        read: dict[str, PartStatement] = {}
        for party in self.header.parties:
            if party not in self.statements or party not in keys:
                raise AuthenticationError(
                    f"the statement or the key of {party} is missing.", party=party, step=_STEP
                )
            read[party] = PartStatement.read(self.statements[party], party=party)
            read[party].verify(keys[party], party=party)
        platform = self.header.platform
        first = read[platform]
        seal = PartStatement.read(self.seal, party=platform)
        seal.verify(keys[platform], party=platform)
        seal.expect(platform, request=first.values.get("request"))
        header = self.header.header_digest
        for party, statement in read.items():
            statement.expect(
                party,
                model=self.header.digest,
                header=header,
                target=self.header.target,
                **{
                    name: first.values.get(name)
                    for name in ("institution", "purpose", "request", "consents", "subjects")
                },
            )
        return {party: dict(statement.values) for party, statement in read.items()}

    def to_json(self) -> str:
        """Return the receipt as text, for the file."""
        return json.dumps(
            {
                "format": _FORMAT,
                "header": json.loads(self.header.to_json()),
                "statements": {p: s.decode("ascii") for p, s in self.statements.items()},
                "seal": self.seal.decode("ascii"),
                "certificates": {
                    p: base64.b64encode(c).decode("ascii") for p, c in self.certificates.items()
                },
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """Read what :meth:`to_json` wrote; nothing is verified yet.

        Raises
        ------
        InputError
            It is something else.
        """
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise ValueError
            return cls(
                ServedModel.from_json(json.dumps(data["header"])),
                {str(p): str(s).encode("ascii") for p, s in data["statements"].items()},
                str(data["seal"]).encode("ascii"),
                {str(p): base64.b64decode(c) for p, c in data["certificates"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(
                "this is no receipt.",
                step=_STEP,
                fix="use a receipt that fedcredit has written, unedited",
            ) from None
