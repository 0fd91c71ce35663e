"""Credit commitments: an enterprise signs that figures are true, without showing them.

A declaration is a JWT with ``typ`` ``fedcredit-declaration+jwt`` (see
:mod:`fedcredit.governance.tokens`) and exactly the claims ``iss``, ``sub``, ``iat``, ``exp``,
``jti``, ``pledge`` (the text that is signed) and ``items``: a list of objects with exactly

========== =======================================================================================
field      the field of a provider's catalog, such as ``annual_paid``
unit       such as ``CNY``
resolution decimal number as text; the figure is committed to in whole steps of it
commitment Pedersen commitment to the number of steps (:mod:`fedcredit.crypto.pedersen`)
========== =======================================================================================

The openings (steps and blinding) stay apart from the token. The enterprise hands them to the
institution that it wants to know its figures; without them the token shows nothing of a figure,
and nobody, the enterprise included, can open it to another one.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any, Final, NoReturn

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.crypto import pedersen
from fedcredit.errors import CryptoError, InputError, Refusal
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.secret_file import unusable_file, write_secret
from fedcredit.governance.tokens import (
    CLOCK_SKEW,
    DECLARATION,
    SignedToken,
    b64url,
    b64url_decode,
    check_id,
    check_signature,
    check_subject,
    check_time,
    read_token,
    sign_token,
)

__all__ = [
    "DEFAULT_PLEDGE",
    "Declaration",
    "DeclaredItem",
    "Figure",
    "Opening",
    "VerifiedDeclaration",
    "check_opening",
    "parse_declaration",
    "sign_declaration",
    "to_steps",
    "verify_declaration",
]

DEFAULT_PLEDGE: Final = (
    "We declare that these figures are complete and true, and answer for it if they are not."
)
MAX_VALIDITY_DAYS: Final = 732
MAX_ITEMS: Final = 16
MAX_PLEDGE: Final = 1000
_STEP: Final = "declaration"
_DAY: Final = 86_400
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,127}")
_DECIMAL: Final = re.compile(r"(?:[1-9][0-9]{0,14}(?:\.[0-9]{0,8}[1-9])?|0\.[0-9]{0,8}[1-9])")
_ITEM: Final = frozenset(["field", "unit", "resolution", "commitment"])
_MAX_UNIT: Final = 32


@dataclass(frozen=True)
class Figure:
    """A figure to be declared.

    Attributes
    ----------
    field : str
    value : int, float, str or Decimal
        In ``unit``; rounded to whole steps of ``resolution``, half to even.
    unit : str
    resolution : int, float, str or Decimal
    """

    field: str
    value: Any = dataclasses.field(repr=False)
    unit: str = ""
    resolution: Any = 1


@dataclass(frozen=True)
class Opening:
    """What opens one commitment; secret.

    Attributes
    ----------
    field : str
    steps : int
        The figure in whole steps of its resolution.
    blinding : bytes
        32 bytes.
    """

    field: str
    steps: int = dataclasses.field(repr=False)
    blinding: bytes = dataclasses.field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an opening is never pickled")


@dataclass(frozen=True)
class DeclaredItem:
    """One figure of a declaration, hidden in its commitment."""

    field: str
    unit: str
    resolution: Decimal
    commitment: bytes


@dataclass(frozen=True)
class VerifiedDeclaration:
    """What a declaration says.

    Attributes
    ----------
    subject : str
        USCC.
    jti : str
    issued, expires : int
        Seconds since the epoch.
    pledge : str
    items : tuple of DeclaredItem
    kid : str
    digest : bytes
        SHA-256 of the token.
    """

    subject: str = dataclasses.field(repr=False)
    jti: str
    issued: int
    expires: int
    pledge: str
    items: tuple[DeclaredItem, ...]
    kid: str
    digest: bytes = dataclasses.field(repr=False)

    def item(self, name: str) -> DeclaredItem:
        """Return the item of a field.

        Raises
        ------
        Refusal
            ``declaration_invalid``: the field is not declared.
        """
        for item in self.items:
            if item.field == name:
                return item
        DECLARATION.refuse("does not declare the field")


@dataclass(frozen=True)
class Declaration:
    """A signed declaration and, apart from it, the openings; secret as long as it holds them.

    Attributes
    ----------
    token : str
    openings : tuple of Opening
    """

    token: str = dataclasses.field(repr=False)
    openings: tuple[Opening, ...] = dataclasses.field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an opening is never pickled")

    def opening(self, name: str) -> Opening:
        """Return the opening of a field.

        Raises
        ------
        InputError
            There is none.
        """
        for opening in self.openings:
            if opening.field == name:
                return opening
        raise InputError("there is no opening of this field.", step=_STEP)

    def save(self, path: str | Path) -> None:
        """Write token and openings to a new file of mode 0600, for the institution alone.

        Raises
        ------
        StorageError
            The file is there already or cannot be written.
        """
        openings = [
            {"field": one.field, "steps": one.steps, "blinding": b64url(one.blinding)}
            for one in self.openings
        ]
        text = json.dumps({"token": self.token, "openings": openings}, indent=1)
        write_secret(path, text.encode(), step=_STEP)

    @classmethod
    def load(cls, path: str | Path) -> Declaration:
        """Read what :meth:`save` wrote, and check that the openings are the commitments'.

        Raises
        ------
        StorageError
            The file cannot be read.
        InputError
            It holds something else.
        Refusal
            ``declaration_invalid``: an opening does not open its commitment.
        """
        try:
            stored = json.loads(Path(path).read_bytes())
            openings = tuple(
                Opening(one["field"], one["steps"], b64url_decode(one["blinding"]))
                for one in stored["openings"]
            )
            token = stored["token"]
        except OSError as error:
            raise unusable_file(error, _STEP) from None
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "the file holds no declaration with its openings.", step=_STEP
            ) from None
        declared = parse_declaration(token)
        for opening in openings:
            check_opening(declared.item(opening.field), opening)
        return cls(token, openings)


def to_steps(value: Any, resolution: Any) -> int:
    """Express a figure in whole steps of a resolution, rounded half to even, in decimal.

    Providers round their own figures in the same way, so equal figures have equal steps.

    Parameters
    ----------
    value, resolution : int, float, str or Decimal
        A float counts as the decimal number that it is printed as.

    Returns
    -------
    int
        Of 64 bits with sign.

    Raises
    ------
    InputError
        The value is no finite number, the resolution not positive, or the result too large.
    """
    number, step = _decimal(value), _decimal(resolution)
    if step <= 0:
        raise InputError("a resolution must be positive.", step=_STEP)
    with localcontext() as context:
        context.prec = 60
        try:
            steps = int((number / step).to_integral_value(rounding=ROUND_HALF_EVEN))
        except InvalidOperation:
            raise InputError("the figure has too many digits.", step=_STEP) from None
    pedersen.scalar_of(steps)
    return steps


def sign_declaration(
    subject: str,
    key: Ed25519PrivateKey,
    kid: str,
    figures: Sequence[Figure],
    *,
    pledge: str,
    now: float,
    valid_days: float,
) -> Declaration:
    """Commit to figures and sign the commitments.

    Raises
    ------
    InputError
        A figure, the pledge or the validity cannot be used.
    """
    items, openings = [], []
    for figure in figures:
        steps, blinding = to_steps(figure.value, figure.resolution), pedersen.random_blinding()
        openings.append(Opening(figure.field, steps, blinding))
        items.append(
            {
                "field": figure.field,
                "unit": figure.unit,
                "resolution": _decimal_text(figure.resolution),
                "commitment": b64url(pedersen.commit(steps, blinding)),
            }
        )
    claims = {
        "iss": subject,
        "sub": subject,
        "iat": int(now),
        "exp": int(now + valid_days * _DAY),
        "jti": secrets.token_hex(16),
        "pledge": pledge or DEFAULT_PLEDGE,
        "items": items,
    }
    token = sign_token(DECLARATION, claims, key, kid)
    try:
        parse_declaration(token)
    except Refusal as refusal:
        raise InputError(refusal.reason, step=_STEP) from None
    return Declaration(token, tuple(openings))


def parse_declaration(text: str) -> VerifiedDeclaration:
    """Read a declaration without checking its signature, as its holder may.

    Raises
    ------
    Refusal
        ``declaration_invalid``.
    """
    return _declaration_of(read_token(text, DECLARATION))


def verify_declaration(
    text: str, keys: KeyRegistry, now: float, *, tx: sa.Connection | None = None
) -> VerifiedDeclaration:
    """Check a declaration: form, claims, times, and a signature by a key of its subject.

    Parameters
    ----------
    text : str
    keys : KeyRegistry
    now : float
    tx : Connection, optional
        A transaction to read in.

    Returns
    -------
    VerifiedDeclaration

    Raises
    ------
    Refusal
        ``declaration_invalid``.
    """
    signed = read_token(text, DECLARATION)
    declared = _declaration_of(signed)
    key = keys.find(signed.kid, tx)
    if (
        key is None
        or (key.owner_kind, key.owner) != ("subject", declared.subject)
        or not key.accepts(declared.issued, now)
    ):
        DECLARATION.refuse("is not signed by a key that counts for its subject")
    check_signature(signed, key.public_key)
    if now >= declared.expires + CLOCK_SKEW:
        DECLARATION.refuse("has expired")
    if now < declared.issued - CLOCK_SKEW:
        DECLARATION.refuse("is dated in the future")
    return declared


def check_opening(item: DeclaredItem, opening: Opening) -> None:
    """Check that an opening opens the commitment of an item.

    Raises
    ------
    Refusal
        ``declaration_invalid``.
    """
    try:
        opened = pedersen.opens(item.commitment, opening.steps, opening.blinding)
    except (CryptoError, InputError):
        opened = False
    if not opened or item.field != opening.field:
        DECLARATION.refuse("is not opened by this figure")


def _declaration_of(token: SignedToken) -> VerifiedDeclaration:
    claims = token.claims
    issued, expires = check_time(token, "iat"), check_time(token, "exp")
    if not 0 < expires - issued <= MAX_VALIDITY_DAYS * _DAY:
        DECLARATION.refuse("is valid for no time, or for too long")
    pledge, items = claims["pledge"], claims["items"]
    if not _is_text(pledge, MAX_PLEDGE) or not pledge:
        DECLARATION.refuse("has no pledge, or too long a one")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        DECLARATION.refuse("has no items, or too many")
    read = tuple(_item_of(item) for item in items)
    if len({item.field for item in read}) != len(read):
        DECLARATION.refuse("declares a field twice")
    return VerifiedDeclaration(
        subject=check_subject(token),
        jti=check_id(token),
        issued=issued,
        expires=expires,
        pledge=pledge,
        items=read,
        kid=token.kid,
        digest=token.digest,
    )


def _item_of(item: Any) -> DeclaredItem:
    if not isinstance(item, dict) or set(item) != _ITEM:
        DECLARATION.refuse("has an item of another form")
    name, unit, resolution = item["field"], item["unit"], item["resolution"]
    if not isinstance(name, str) or not _FIELD.fullmatch(name) or not _is_text(unit, _MAX_UNIT):
        DECLARATION.refuse("has an item whose field or unit is no name")
    if not isinstance(resolution, str) or not _DECIMAL.fullmatch(resolution):
        DECLARATION.refuse("has an item whose resolution is no decimal number")
    try:
        commitment = pedersen.check_commitment(b64url_decode(item["commitment"]))
    except (ValueError, TypeError, CryptoError):
        DECLARATION.refuse("has an item whose commitment is none")
    return DeclaredItem(name, unit, Decimal(resolution), commitment)


def _is_text(value: Any, limit: int) -> bool:
    return isinstance(value, str) and len(value) <= limit and (not value or value.isprintable())


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise InputError("a figure must be a number.", step=_STEP)
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise InputError("a figure must be a number.", step=_STEP) from None
    if not number.is_finite():
        raise InputError("a figure must be finite.", step=_STEP)
    return number


def _decimal_text(value: Any) -> str:
    text = format(_decimal(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
