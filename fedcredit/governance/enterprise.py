"""The information subject's side: an enterprise's signing key, and what it signs.

The key lies in one PEM file (PKCS #8, RFC 5958), as a rule encrypted with a passphrase, readable by
its owner alone. A line above the PEM block, which readers skip (RFC 7468, section 2), names the
enterprise.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.errors import InputError, KeyMaterialError, Refusal
from fedcredit.governance.consent_token import MAX_VALIDITY_DAYS, parse_consent
from fedcredit.governance.declaration import Declaration, Figure, sign_declaration
from fedcredit.governance.keys import normalise_subject
from fedcredit.governance.secret_file import unusable_file, write_secret
from fedcredit.governance.tokens import CONSENT, REVOCATION, sign_token, thumbprint

__all__ = ["Enterprise"]

_STEP: Final = "enterprise key"
_DAY: Final = 86_400
_JTI: Final = re.compile(r"[0-9a-f]{32}")
_LABEL: Final = "Subject: "
_MAX_FILE: Final = 65_536


class Enterprise:
    """An enterprise that consents, withdraws and declares.

    Parameters
    ----------
    uscc : str
        Its unified social credit code, in any spelling.
    key : Ed25519PrivateKey, optional
        Default: a new one.

    Raises
    ------
    InputError
        The code is none.
    """

    def __init__(self, uscc: str, key: Ed25519PrivateKey | None = None) -> None:
        self.uscc = normalise_subject(uscc)
        self._key = Ed25519PrivateKey.generate() if key is None else key

    def __repr__(self) -> str:
        return f"Enterprise(kid={self.kid!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is never pickled")

    @classmethod
    def generate(cls, uscc: str) -> Enterprise:
        """Make an enterprise with a new key."""
        return cls(uscc)

    @classmethod
    def load(
        cls, path: str | Path, passphrase: str | None = None, *, uscc: str | None = None
    ) -> Enterprise:
        """Read a key file.

        Parameters
        ----------
        path : str or Path
        passphrase : str, optional
        uscc : str, optional
            For a file that does not name its enterprise.

        Raises
        ------
        StorageError
            The file cannot be read.
        KeyMaterialError
            It holds no Ed25519 key, or the passphrase is missing or wrong.
        InputError
            It does not name an enterprise.
        """
        try:
            data = Path(path).read_bytes()[:_MAX_FILE]
        except OSError as error:
            raise unusable_file(error, _STEP) from None
        head, begin, block = data.partition(b"-----BEGIN ")
        try:
            key = serialization.load_pem_private_key(
                begin + block, None if passphrase is None else passphrase.encode()
            )
        except (ValueError, TypeError):
            raise KeyMaterialError(
                "the file holds no private key, or the passphrase is missing or wrong.",
                step=_STEP,
                fix="give the passphrase with which it was saved",
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyMaterialError(
                "the key is of another kind than Ed25519.",
                step=_STEP,
                fix="make a key with `fedcredit consent keygen`",
            )
        for line in head.decode("utf-8", "replace").splitlines():
            if line.startswith(_LABEL) and uscc is None:
                uscc = line.removeprefix(_LABEL)
        if uscc is None:
            raise InputError(
                "the key file does not name its enterprise.", step=_STEP, fix="give uscc="
            )
        return cls(uscc, key)

    def save(self, path: str | Path, passphrase: str | None = None) -> None:
        """Write the key to a new file that its owner alone may read (mode 0600).

        Parameters
        ----------
        path : str or Path
            Nothing may be there yet: an overwritten key is lost.
        passphrase : str, optional
            Encrypts the key.

        Raises
        ------
        StorageError
            The file is there already or cannot be written.
        """
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            encryption = serialization.BestAvailableEncryption(passphrase.encode())
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        write_secret(path, f"{_LABEL}{self.uscc}\n".encode() + pem, step=_STEP)

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    @property
    def public_pem(self) -> bytes:
        """The public key as PEM, for the parties' registries."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def kid(self) -> str:
        """The key's JWK thumbprint."""
        return thumbprint(self.public_key)

    def grant(
        self,
        *,
        institution: str,
        purpose: str,
        scope: Sequence[str],
        now: float | None = None,
        valid_days: float | None = None,
        expires: float | None = None,
        not_before: float | None = None,
        max_uses: int = 1,
    ) -> str:
        """Consent to questions of one institution.

        Parameters
        ----------
        institution, purpose : str
        scope : sequence of str
            ``score:<model>@<version>``, ``verify:<provider>.<predicate>``, ``reasons``.
        now : float, optional
            Seconds since the epoch; by default what the clock says.
        valid_days, expires : float, optional
            How long, or until when; by default 30 days.
        not_before : float, optional
            From when; by default at once.
        max_uses : int
            Requests for which each party accepts it.

        Returns
        -------
        str
            The token; hand it to the institution alone.

        Raises
        ------
        InputError
            The parties would refuse it as malformed.
        """
        if valid_days is not None and expires is not None:
            raise _invalid("a consent expires after some days or at a time, not both.")
        signed = _now(now)
        if expires is None:
            expires = signed + (30.0 if valid_days is None else valid_days) * _DAY
        claims: dict[str, Any] = {
            "iss": self.uscc,
            "sub": self.uscc,
            "aud": institution,
            "iat": int(signed),
            "nbf": int(signed if not_before is None else not_before),
            "exp": int(expires),
            "jti": secrets.token_hex(16),
            "purpose": purpose,
            "scope": list(scope),
            "max_uses": max_uses,
        }
        token = sign_token(CONSENT, claims, self._key, self.kid)
        try:
            parse_consent(token, max_validity_days=MAX_VALIDITY_DAYS)
        except Refusal as refusal:
            raise _invalid(refusal.reason, "see `fedcredit consent grant --help`") from None
        return token

    def revoke(self, consent: str, *, now: float | None = None) -> str:
        """Withdraw a consent.

        Parameters
        ----------
        consent : str
            The token, or its id (``jti``).
        now : float, optional

        Returns
        -------
        str
            The revocation token; every party that receives it refuses the consent from then on.

        Raises
        ------
        InputError
            It is neither, or another enterprise's consent.
        """
        jti = consent
        if not _JTI.fullmatch(consent):
            try:
                parsed = parse_consent(consent, max_validity_days=float("inf"))
            except Refusal:
                raise _invalid("neither a consent nor the id of one was given.") from None
            if parsed.subject != self.uscc:
                raise _invalid("the consent is another enterprise's.")
            jti = parsed.jti
        claims = {"iss": self.uscc, "sub": self.uscc, "iat": int(_now(now)), "jti": jti}
        return sign_token(REVOCATION, claims, self._key, self.kid)

    def declare(
        self,
        *,
        field: str,
        value: Any,
        now: float | None = None,
        unit: str = "",
        pledge: str = "",
        resolution: Any = 1,
        valid_days: float = 366,
    ) -> Declaration:
        """Pledge that one figure is true, without showing it; see :meth:`declare_figures`."""
        figure = Figure(field, value, unit, resolution)
        return self.declare_figures([figure], pledge=pledge, now=now, valid_days=valid_days)

    def declare_figures(
        self,
        figures: Sequence[Figure],
        *,
        now: float | None = None,
        pledge: str = "",
        valid_days: float = 366,
    ) -> Declaration:
        """Pledge that figures are true: sign commitments to them.

        Parameters
        ----------
        figures : sequence of Figure
            Each field once.
        now : float, optional
        pledge : str
            The text that is signed; by default that the figures are true.
        valid_days : float

        Returns
        -------
        Declaration
            The signed token and, apart from it, the openings.

        Raises
        ------
        InputError
            A figure cannot be declared.
        """
        return sign_declaration(
            self.uscc,
            self._key,
            self.kid,
            figures,
            pledge=pledge,
            now=_now(now),
            valid_days=valid_days,
        )


def _now(given: float | None) -> float:
    return time.time() if given is None else given


def _invalid(reason: str, fix: str | None = None) -> InputError:
    return InputError(reason, step="consent", fix=fix)
