"""Base oblivious transfers of random 128-bit keys on ristretto255.

The scheme is Masny and Rindal, "Endemic Oblivious Transfer" (ACM CCS 2019), built on Diffie-Hellman
key agreement in the random-oracle model. For instance ``i`` with choice ``c``::

    sender                                   receiver
    a_i random, A_i = a_i·G      ── A_i ──►
                                             b random, r_{1-c} a random point,
                                 ◄─ r_0,r_1  r_c = b·G − H_{i,c}(r_{1-c})
    B_j = r_j + H_{i,j}(r_{1-j})
    key_j = KDF(i, j, a_i·B_j)               key_c = KDF(i, c, b·A_i)

``(r_0, r_1)`` is a pair of uniform points whatever ``c`` is, so the sender learns nothing about the
choice; the receiver cannot know the discrete logarithm of both ``B_0`` and ``B_1``. Both parties
have some influence on their own keys (that is what *endemic* means); the protocols built on this
module allow for it.

A batch needs care: McQuoid, Rosulek and Roy, "Batching Base Oblivious Transfers" (ASIACRYPT 2021),
show that instances which share the sender's point can be played against each other. Here every
instance has a key of its own, both hashes are tagged with session and instance, and the key
derivation takes in the whole exchange. Messages: 32 bytes per instance from the sender, 64 from
the receiver.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcredit.crypto import group
from fedcredit.errors import CiphertextError, InputError, ProtocolError

__all__ = ["KEY_BYTES", "MAX_INSTANCES", "BaseOTReceiver", "BaseOTSender"]

KEY_BYTES: Final = 16
MAX_INSTANCES: Final = 1 << 16

_MIN_SESSION: Final = 16
_P: Final = group.POINT_BYTES
_HASH_DST: Final = b"fedcredit-base-ot-v1-point-with-ristretto255_XMD:SHA-512_R255MAP_RO_"
_KEY_TAG: Final = b"fedcredit-base-ot-v1-key"
_STEP: Final = "base oblivious transfer"


def _check(session: bytes, n: int) -> bytes:
    if len(session) < _MIN_SESSION:
        raise InputError(
            "the session name is shorter than 16 bytes.",
            step=_STEP,
            fix="bind it to fresh randomness of both parties",
        )
    if not 1 <= n <= MAX_INSTANCES:
        raise InputError(f"a batch holds 1 to {MAX_INSTANCES} instances.", step=_STEP)
    return hashlib.sha256(session).digest()


def _mask_point(session: bytes, index: int, branch: int, point: bytes) -> bytes:
    """Return ``H_{i,j}(point)``."""
    tag = session + index.to_bytes(4, "big") + bytes([branch])
    return group.hash_to_group(tag + point, _HASH_DST)


def _transcript(session: bytes, first: bytes, reply: bytes) -> bytes:
    digest = hashlib.sha256(_KEY_TAG + session + len(first).to_bytes(8, "big"))
    digest.update(first)
    digest.update(reply)
    return digest.digest()


def _key(transcript: bytes, index: int, branch: int, shared: bytes) -> bytes:
    tag = index.to_bytes(4, "big") + bytes([branch])
    return hashlib.sha256(_KEY_TAG + transcript + tag + shared).digest()[:KEY_BYTES]


def _points(message: bytes, count: int, sender: str) -> list[bytes]:
    if not isinstance(message, bytes | bytearray | memoryview) or len(message) != count * _P:
        raise CiphertextError(
            f"the {sender}'s message does not have {count * _P} bytes.",
            step=_STEP,
            fix="check that both parties agree on the number of instances",
        )
    data = bytes(message)
    return [data[start : start + _P] for start in range(0, len(data), _P)]


class BaseOTSender:
    """The side that ends up with both keys of every instance.

    Parameters
    ----------
    session : bytes
        At least 16 bytes that both parties share and that never occur again.
    n : int
        Number of instances, 1 to 65536.

    Raises
    ------
    InputError
        If the session name is short or ``n`` out of range.
    """

    __slots__ = ("_first", "_n", "_scalars", "_session")

    def __init__(self, session: bytes, n: int) -> None:
        self._session = _check(session, n)
        self._n = n
        self._scalars: list[bytes] = []
        self._first = b""

    def __repr__(self) -> str:
        return f"BaseOTSender(n={self._n})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a base-OT sender holds secrets and is never pickled")

    def first(self) -> bytes:
        """Draw the secret scalars and return the opening message, once.

        Returns
        -------
        bytes
            32·n bytes, the points ``A_i``.

        Raises
        ------
        ProtocolError
            If it was already called.
        """
        if self._first:
            raise ProtocolError("the opening message was already made.", step=_STEP)
        self._scalars = [group.random_scalar() for _ in range(self._n)]
        self._first = b"".join(group.base_mult(scalar) for scalar in self._scalars)
        return self._first

    def keys(self, reply: bytes) -> NDArray[np.uint8]:
        """Derive both keys of every instance from the receiver's reply, once.

        Parameters
        ----------
        reply : bytes
            64·n bytes.

        Returns
        -------
        ndarray of uint8, shape (n, 2, 16)

        Raises
        ------
        CiphertextError
            If the reply has another length or holds a malformed point.
        ProtocolError
            If `first` was not called before, or the keys were already derived.
        """
        if not self._scalars:
            raise ProtocolError("no opening message is waiting for a reply.", step=_STEP)
        points = _points(reply, 2 * self._n, "receiver")
        scalars, self._scalars = self._scalars, []
        transcript = _transcript(self._session, self._first, bytes(reply))
        out: list[bytes] = []
        for index, scalar in enumerate(scalars):
            pair = points[2 * index], points[2 * index + 1]
            for branch in (0, 1):
                mask = _mask_point(self._session, index, branch, pair[1 - branch])
                shared = group.mult(scalar, group.add(pair[branch], mask))
                out.append(_key(transcript, index, branch, shared))
        return np.frombuffer(b"".join(out), np.uint8).reshape(self._n, 2, KEY_BYTES)


class BaseOTReceiver:
    """The side that picks one key of every instance.

    Parameters
    ----------
    session : bytes
        As at the sender.
    choices : array-like of bool or int, shape (n,)
        The secret choice, 0 or 1, of every instance.

    Raises
    ------
    InputError
        If the session name is short or the choices are not 0 or 1.
    """

    __slots__ = ("_choices", "_keys", "_session")

    def __init__(self, session: bytes, choices: ArrayLike) -> None:
        bits = np.asarray(choices)
        if bits.ndim != 1 or bits.dtype.kind not in "biu" or np.any((bits != 0) & (bits != 1)):
            raise InputError("the choices must be a vector of 0 and 1.", step=_STEP)
        self._session = _check(session, len(bits))
        self._choices: list[int] = [int(bit) for bit in bits]
        self._keys: NDArray[np.uint8] | None = None

    def __repr__(self) -> str:
        return f"BaseOTReceiver(n={len(self._choices)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a base-OT receiver holds secrets and is never pickled")

    def reply(self, first: bytes) -> bytes:
        """Answer the opening message and derive the chosen keys, once.

        Parameters
        ----------
        first : bytes
            32·n bytes.

        Returns
        -------
        bytes
            64·n bytes, the points ``r_0, r_1`` of every instance.

        Raises
        ------
        CiphertextError
            If the message has another length or holds a malformed point.
        ProtocolError
            If it was already called.
        """
        if self._keys is not None:
            raise ProtocolError("the reply was already made.", step=_STEP)
        offered = _points(first, len(self._choices), "sender")
        pairs: list[bytes] = []
        shared: list[bytes] = []
        for index, (choice, theirs) in enumerate(zip(self._choices, offered, strict=True)):
            scalar = group.random_scalar()
            other = group.from_uniform_bytes(secrets.token_bytes(64))
            mask = _mask_point(self._session, index, choice, other)
            mine = group.sub(group.base_mult(scalar), mask)
            pairs += (other, mine) if choice else (mine, other)
            shared.append(group.mult(scalar, theirs))
        message = b"".join(pairs)
        transcript = _transcript(self._session, bytes(first), message)
        keys = [
            _key(transcript, index, choice, point)
            for index, (choice, point) in enumerate(zip(self._choices, shared, strict=True))
        ]
        self._keys = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
        return message

    @property
    def keys(self) -> NDArray[np.uint8]:
        """The chosen keys, uint8 of shape (n, 16), read-only.

        Raises
        ------
        ProtocolError
            Before `reply`.
        """
        if self._keys is None:
            raise ProtocolError("the keys exist only after the reply.", step=_STEP)
        return self._keys
