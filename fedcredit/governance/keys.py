"""Public signing keys of enterprises and institutions, as one party knows them.

A key is an Ed25519 public key and is called by its JWK thumbprint (RFC 7638), so that a name can
never stand for another key. How a party makes sure that a key is the enterprise's (a visit, a
licence, a register) is its own affair; what it has entered here is what it relies on.

The life of a key
-----------------
active
    From ``valid_from``. What it signs counts.
retired
    After a rotation. It still counts for tokens that are presented here until ``valid_to``. After
    that nothing new is accepted, whatever date it claims, because whoever stole an old key can
    write any date; consents that were registered here before stay valid for their term.
revoked
    Nothing counts any more that it ever signed, registered or not. A revoked key never returns.

A revocation of a consent is accepted from any key of the subject that is not revoked, retired ones
after ``valid_to`` included: to withdraw must not be harder than to consent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa

from fedcredit import uscc
from fedcredit.errors import InputError, KeyMaterialError
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import KEYS
from fedcredit.governance.tokens import CLOCK_SKEW, thumbprint

__all__ = ["KeyRegistry", "OwnerKind", "RegisteredKey", "check_public_key", "normalise_subject"]

OwnerKind = Literal["subject", "institution"]
KEY_BYTES: Final = 32
_STEP: Final = "keys"
_MAX_NAME: Final = 128

# Edwards25519 (RFC 8032, section 5.1).
_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P


@dataclass(frozen=True)
class RegisteredKey:
    """A key of the registry.

    Attributes
    ----------
    kid : str
        JWK thumbprint.
    owner_kind : {"subject", "institution"}
    owner : str
        USCC, or the institution's name.
    public_key : bytes
        32 bytes.
    status : {"active", "retired", "revoked"}
    valid_from, valid_to : float
        Seconds since the epoch; no ``valid_to``: until further notice.
    added : float
    """

    kid: str
    owner_kind: str
    owner: str = field(repr=False)
    public_key: bytes = field(repr=False)
    status: str
    valid_from: float
    valid_to: float | None
    added: float

    def accepts(self, signed: float, now: float) -> bool:
        """Tell whether a token signed at ``signed`` and presented at ``now`` counts."""
        if self.status == "revoked" or signed < self.valid_from - CLOCK_SKEW:
            return False
        if self.valid_to is None:
            return True
        return now <= self.valid_to and signed <= self.valid_to + CLOCK_SKEW


class KeyRegistry:
    """The keys that a party has entered; safe to share between threads.

    Parameters
    ----------
    ledger : Ledger
    party : str
        Named in errors.
    """

    def __init__(self, ledger: Ledger, party: str) -> None:
        self._ledger, self._party = ledger, party

    def __repr__(self) -> str:
        return f"KeyRegistry(party={self._party!r})"

    def add(
        self,
        owner_kind: OwnerKind,
        owner: str,
        public_key: bytes,
        now: float,
        *,
        valid_from: float | None = None,
        valid_to: float | None = None,
        tx: sa.Connection | None = None,
    ) -> str:
        """Enter a key.

        Parameters
        ----------
        owner_kind : {"subject", "institution"}
        owner : str
            USCC in any spelling, or the institution's name.
        public_key : bytes
            32 bytes.
        now : float
        valid_from, valid_to : float, optional
            Default: from now, until further notice.
        tx : Connection, optional
            A transaction to take part in.

        Returns
        -------
        str
            The key's id.

        Raises
        ------
        InputError
            The owner, the times or the key cannot be used, or the key is known already, be it
            another owner's or a revoked one.
        """
        start = now if valid_from is None else valid_from
        row = self._row(owner_kind, owner, public_key, now, start, valid_to)
        with self._within(tx) as connection:
            self._insert(connection, row)
        return str(row["kid"])

    def rotate(
        self,
        kid: str,
        public_key: bytes,
        now: float,
        *,
        grace: float = 30 * 86_400.0,
        tx: sa.Connection | None = None,
    ) -> str:
        """Replace a key by a new one of the same owner.

        Parameters
        ----------
        kid : str
            The active key that retires.
        public_key : bytes
            The new one.
        now : float
        grace : float
            Seconds for which tokens of the old key may still be presented for the first time.
        tx : Connection, optional

        Returns
        -------
        str
            The new key's id.

        Raises
        ------
        InputError
            There is no such active key, or the new one cannot be used.
        """
        if not 0 <= grace < float("inf"):
            raise self._error("the grace period is no number of seconds.")
        with self._within(tx) as connection:
            old = self._known(connection, kid)
            if old.status != "active":
                raise self._error(f"the key is {old.status} already.")
            kind: OwnerKind = "subject" if old.owner_kind == "subject" else "institution"
            row = self._row(kind, old.owner, public_key, now, now, None)
            self._insert(connection, row)
            end = now + grace if old.valid_to is None else min(old.valid_to, now + grace)
            connection.execute(
                sa.update(KEYS).where(KEYS.c.kid == kid).values(status="retired", valid_to=end)
            )
        return str(row["kid"])

    def revoke(self, kid: str, now: float, *, tx: sa.Connection | None = None) -> None:
        """Revoke a key: nothing counts any more that it signed. Repeating it changes nothing.

        Raises
        ------
        InputError
            The key is unknown.
        """
        with self._within(tx) as connection:
            old = self._known(connection, kid)
            end = now if old.valid_to is None else min(old.valid_to, now)
            connection.execute(
                sa.update(KEYS)
                .where(KEYS.c.kid == kid, KEYS.c.status != "revoked")
                .values(status="revoked", valid_to=end)
            )

    def find(self, kid: str, tx: sa.Connection | None = None) -> RegisteredKey | None:
        """Return a key by its id, whatever its status, or None."""
        return self.find_many([kid], tx).get(kid)

    def find_many(
        self, kids: Sequence[str], tx: sa.Connection | None = None
    ) -> dict[str, RegisteredKey]:
        """Return keys by their ids; unknown ones are absent."""
        query = sa.select(KEYS).where(KEYS.c.kid.in_(sorted(set(kids))))
        if tx is not None:
            rows = tx.execute(query).all()
        else:
            with self._ledger.reading() as connection:
                rows = connection.execute(query).all()
        return {row.kid: RegisteredKey(*row) for row in rows}

    def list(
        self, *, owner: str | None = None, tx: sa.Connection | None = None
    ) -> tuple[RegisteredKey, ...]:
        """Return the keys of one owner (a USCC in any spelling, or a name) or all, oldest first."""
        query = sa.select(KEYS).order_by(KEYS.c.added, KEYS.c.kid)
        if owner is not None:
            names = [owner, *uscc.normalise([owner]).ids.astype(str).tolist()]
            query = query.where(KEYS.c.owner.in_(names))
        if tx is not None:
            return tuple(RegisteredKey(*row) for row in tx.execute(query))
        with self._ledger.reading() as connection:
            return tuple(RegisteredKey(*row) for row in connection.execute(query))

    @contextlib.contextmanager
    def _within(self, tx: sa.Connection | None) -> Iterator[sa.Connection]:
        if tx is not None:
            yield tx
            return
        with self._ledger.transaction() as connection:
            yield connection

    def _row(
        self,
        owner_kind: OwnerKind,
        owner: str,
        public_key: bytes,
        now: float,
        start: float,
        end: float | None,
    ) -> dict[str, Any]:
        if owner_kind not in get_args(OwnerKind):
            raise self._error("a key's owner is a subject or an institution.")
        if owner_kind == "subject":
            owner = normalise_subject(owner)
        elif not isinstance(owner, str) or not 1 <= len(owner) <= _MAX_NAME:
            raise self._error("the institution's name has no or too many characters.")
        if end is not None and not end > start:
            raise self._error("the key would expire before it is valid.")
        return {
            "kid": thumbprint(check_public_key(public_key)),
            "owner_kind": owner_kind,
            "owner": owner,
            "public_key": public_key,
            "status": "active",
            "valid_from": start,
            "valid_to": end,
            "added": now,
        }

    def _insert(self, tx: sa.Connection, row: dict[str, Any]) -> None:
        if tx.execute(sa.select(KEYS.c.kid).where(KEYS.c.kid == row["kid"])).first() is not None:
            raise self._error(
                "the key is known already.", "make a new key; a key serves one owner, once"
            )
        tx.execute(sa.insert(KEYS), [row])

    def _known(self, tx: sa.Connection, kid: str) -> RegisteredKey:
        found = self.find(kid, tx)
        if found is None:
            raise self._error("there is no such key.", "see `fedcredit registry list`")
        return found

    def _error(self, reason: str, fix: str | None = None) -> InputError:
        return InputError(reason, party=self._party, step=_STEP, fix=fix)


def normalise_subject(owner: str) -> str:
    """Return a USCC in the one spelling in which tokens and questions carry it.

    Raises
    ------
    InputError
        It is none.
    """
    ids = uscc.normalise([owner]).ids if isinstance(owner, str) else []
    if len(ids) != 1:
        raise InputError(
            "the subject is no unified social credit code.",
            step=_STEP,
            fix="give the 18 characters of the business licence",
        )
    return str(ids.astype(str)[0])


def check_public_key(public_key: bytes) -> bytes:
    """Return an Ed25519 public key if it is fit to check signatures with.

    Libraries accept any 32 bytes. Those that encode no point of the curve never verify anything,
    and under a point of small order anybody can sign (RFC 8032, section 5.1.7, cofactor).

    Raises
    ------
    KeyMaterialError
        It has another length, is not canonical, no point, or of small order.
    """
    if not isinstance(public_key, bytes) or len(public_key) != KEY_BYTES:
        raise _unfit("does not have 32 bytes")
    encoded = int.from_bytes(public_key, "little")
    y, sign = encoded & (2**255 - 1), encoded >> 255
    if y >= _P:
        raise _unfit("is not canonical")
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if (v * x * x - u) % _P or (x == 0 and sign):
        raise _unfit("is no point of the curve")
    for _ in range(3):
        xx, yy, product = x * x, y * y, _D * x * x * y * y
        x, y = (
            2 * x * y * pow(1 + product, -1, _P) % _P,
            (yy + xx) * pow(1 - product, -1, _P) % _P,
        )
    if x == 0 and y == 1:
        raise _unfit("is of small order")
    return public_key


def _unfit(reason: str) -> KeyMaterialError:
    return KeyMaterialError(
        f"the Ed25519 public key {reason}.",
        step=_STEP,
        fix="make a key with `fedcredit consent keygen`",
    )
