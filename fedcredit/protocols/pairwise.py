"""What the data providers share among themselves and hide from the label holder.

Every two providers agree on a key. From the keys come shares of zero, which hide what each
provider adds to a sum, a sealed channel, and randomness that all providers have in common::

    provider i                                 provider j
      PairKey{fresh X25519 key}   <---------->   PairKey{fresh X25519 key}       once per session
      pair key = HKDF-SHA256(X25519, session): a stream key and one sealing key per direction

      zero share, call c   i: Σ_j ±AES-CTR(stream key of i and j, c)      the lower name adds,
                                                                          the higher one subtracts
      common, call c       the first provider by name draws it from the system
                           CommonSeed{AES-256-GCM(seed)}  ------------>   every other provider

The label holder and the hub relay all of it.

================  ==============================================================================
role              learns
================  ==============================================================================
each provider     public keys of the others; the common randomness; nothing about their values
label holder,     public keys and lengths; of the masked values that the providers send it
hub               nothing but their sum over all providers
================  ==============================================================================

The parties are semi-honest. A label holder that colludes with all providers but one takes that
one's mask off. What protects the public keys on their way is the signature that every envelope
bears. Keys are fresh in every session; every call of a share uses a stream of its own, so all
providers make the same calls in the same order. A sealed message has the number of its channel
and direction as nonce: one that is changed, repeated, left out or out of order does not open.

Sources: D. Chaum, "The Dining Cryptographers Problem", J. Cryptology 1 (1988), and
K. Bonawitz et al., "Practical Secure Aggregation", CCS 2017 (pairwise masks that cancel);
RFC 7748 (X25519), RFC 5869 (HKDF), NIST SP 800-38A and 800-38D (AES in counter mode and GCM).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from numpy.typing import NDArray

from fedcredit.crypto.prg import prg, prg_u64
from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.wire import Message, Peer, Peers

__all__ = ["CommonSeed", "PairKey", "ZeroShares", "agree_keys"]

_STEP = "keys between providers"
_INFO = b"fedcredit pairwise"
_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, eq=False, repr=False)
class PairKey(
    Message,
    kind="pairwise.key",
    version=1,
    max_bytes=4 << 10,
    reveals="nothing: a random public key",
):
    """Provider to provider: a fresh X25519 public key, 32 bytes."""

    public: bytes


@dataclass(frozen=True, eq=False, repr=False)
class CommonSeed(
    Message,
    kind="pairwise.common",
    version=1,
    max_bytes=1 << 20,
    reveals="randomness that only the providers know; it is sealed between them",
):
    """Provider to provider: random bytes, sealed with AES-256-GCM under the pair's key."""

    sealed: bytes


async def agree_keys(
    others: Sequence[Peer],
    session: bytes,
    info: bytes,
    *,
    step: str = _STEP,
    message: type[PairKey] = PairKey,
) -> list[bytes]:
    """Agree on a fresh key with every other provider (X25519, HKDF-SHA256).

    Parameters
    ----------
    others : sequence of Peer
        The other providers; all of them do the same.
    session : bytes
        The session's name, the salt of the derivation.
    info : bytes
        What the keys are for.
    step : str
        Named in errors.
    message : type of PairKey
        What carries the public keys; a subclass lets transcripts name the protocol.

    Returns
    -------
    list of bytes
        32 bytes per peer, in the order of ``others``.

    Raises
    ------
    PeerProtocolError
        If a public key is not 32 bytes long or of small order.
    """
    secret = X25519PrivateKey.generate()
    own = secret.public_key().public_bytes_raw()
    for other in others:
        await other.send(message(own))
    keys = []
    for other in others:
        theirs = (await other.recv(message)).public
        try:
            shared = secret.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError:
            raise PeerProtocolError(
                f"the public key of {other.name} is malformed.", step=step
            ) from None
        both = b"".join(sorted((own, theirs)))
        keys.append(HKDF(SHA256(), _KEY_BYTES, session, info + both).derive(shared))
    return keys


class _Pair:
    """The keys of two providers and the numbers of the messages between them."""

    __slots__ = ("_inward", "_outward", "_received", "_sent", "adds", "stream")

    def __init__(self, key: bytes, adds: bool) -> None:
        keys = HKDFExpand(SHA256(), 3 * _KEY_BYTES, _INFO).derive(key)
        self.stream = keys[:_KEY_BYTES]
        self.adds = adds
        upward, downward = keys[_KEY_BYTES : 2 * _KEY_BYTES], keys[2 * _KEY_BYTES :]
        self._outward = AESGCM(upward if adds else downward)
        self._inward = AESGCM(downward if adds else upward)
        self._sent = self._received = 0

    def __repr__(self) -> str:
        return "_Pair()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def seal(self, plain: bytes | memoryview, purpose: bytes) -> bytes:
        nonce = self._sent.to_bytes(_NONCE_BYTES, "big")
        self._sent += 1
        return self._outward.encrypt(nonce, plain, purpose)

    def open(self, sealed: bytes | memoryview, purpose: bytes) -> bytes:
        nonce = self._received.to_bytes(_NONCE_BYTES, "big")
        plain = self._inward.decrypt(nonce, sealed, purpose)
        self._received += 1
        return plain


class ZeroShares:
    """One provider's shares of zero, and its sealed channels to the other providers.

    Make it with :meth:`agree`, one per session.

    Attributes
    ----------
    me : str
        This provider's name.
    names : tuple of str
        All providers, sorted; the first one draws what is common.
    """

    def __init__(self, me: str, keys: Mapping[str, bytes], peers: Mapping[str, Peer]) -> None:
        self.me = me
        self.names = tuple(sorted((me, *keys)))
        self._pairs = {name: _Pair(keys[name], me < name) for name in self.names if name != me}
        self._peers = {name: peers[name] for name in self._pairs}
        self._calls = 0

    @classmethod
    async def agree(
        cls, peers: Peers, me: str, others: Sequence[str], session: bytes
    ) -> ZeroShares:
        """Agree on fresh keys with every other provider, which all do the same.

        Parameters
        ----------
        peers : Peers
            Among them the other providers.
        me : str
            This provider's name.
        others : sequence of str
            The other providers' names; empty if there is none.
        session : bytes
            The session's name, the same at every provider.

        Raises
        ------
        InputError
            If the names are not different peers of this session.
        PeerProtocolError
            If a public key is malformed.
        """
        names = sorted(others)
        if me in names or len(set(names)) != len(names) or not set(names) <= set(peers):
            raise InputError(
                "the other providers must be different peers of this session.",
                step=_STEP,
                fix="name every provider of the job once, without the own name",
            )
        keys = await agree_keys([peers[name] for name in names], session, _INFO, step=_STEP)
        return cls(me, dict(zip(names, keys, strict=True)), peers)

    def __repr__(self) -> str:
        return f"ZeroShares({self.me!r} of {len(self.names)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    # ------------------------------------------------------------------------- shares of zero

    def u16(self, n: int) -> NDArray[np.uint16]:
        """Give this provider's next share of zero modulo 2^16.

        Parameters
        ----------
        n : int
            How many numbers, 0 or more.

        Returns
        -------
        ndarray of uint16, shape (n,)
            Uniform, unless there is one provider, whose share is zero. The shares that all
            providers get with the same call (the same number and kind of calls before it) add up
            to zero.
        """
        total = np.zeros(_checked(n), np.uint16)
        for pair in self._next():
            part = prg(pair.stream, 2 * n, self._calls).view("<u2")
            total = total + part if pair.adds else total - part
        return total.astype(np.uint16, copy=False)

    def u64(self, n: int) -> NDArray[np.uint64]:
        """Give this provider's next share of zero modulo 2^64; see :meth:`u16`."""
        total = np.zeros(_checked(n), np.uint64)
        for pair in self._next():
            part = prg_u64(pair.stream, n, self._calls)
            total = total + part if pair.adds else total - part
        return total

    def _next(self) -> list[_Pair]:
        """Go on to the next stream: none serves two calls."""
        self._calls += 1
        return list(self._pairs.values())

    # -------------------------------------------------------------------------- sealed channel

    async def common(self, n_bytes: int) -> bytes:
        """Give fresh random bytes that all providers know, and nobody else.

        Parameters
        ----------
        n_bytes : int
            How many, 1 to 4096: a seed rather than a stream.

        Raises
        ------
        InputError
            If ``n_bytes`` is out of range.
        PeerProtocolError
            If the first provider's message does not open or has another length.
        """
        if not 1 <= n_bytes <= 4096:
            raise InputError("common randomness has 1 to 4096 bytes.", step=_STEP)
        lead = self.names[0]
        if self.me == lead:
            drawn = os.urandom(n_bytes)
            for name, peer in self._peers.items():
                await peer.send(CommonSeed(self.seal(name, drawn, "common seed")))
            return drawn
        message = await self._peers[lead].recv(CommonSeed)
        drawn = self.open(lead, message.sealed, "common seed")
        if len(drawn) != n_bytes:
            raise PeerProtocolError(
                "the common randomness has another length.", party=lead, step=_STEP
            )
        return drawn

    def seal(self, name: str, plain: bytes | memoryview, purpose: str) -> bytes:
        """Seal bytes for another provider (AES-256-GCM); 16 bytes longer.

        Parameters
        ----------
        name : str
            The provider that shall read them.
        plain : bytes
            What nobody else may read.
        purpose : str
            Both sides must give the same; it is authenticated and not sent.
        """
        return self._pair(name).seal(plain, purpose.encode())

    def open(self, name: str, sealed: bytes | memoryview, purpose: str) -> bytes:
        """Open what another provider sealed; the messages of one provider in their order.

        Raises
        ------
        PeerProtocolError
            If the message was changed, is not the next one, or has another purpose.
        """
        try:
            return self._pair(name).open(sealed, purpose.encode())
        except InvalidTag:
            raise PeerProtocolError(
                "a sealed message does not open: it was changed, is out of turn, or was sealed "
                "in another session.",
                party=name,
                step=purpose,
            ) from None

    def _pair(self, name: str) -> _Pair:
        if name not in self._pairs:
            raise InputError(f"{name} is no other provider of this session.", step=_STEP)
        return self._pairs[name]


def _checked(n: int) -> int:
    if n < 0:
        raise InputError("a share of zero cannot have a negative length.", step=_STEP)
    return n
