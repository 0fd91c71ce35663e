"""The keys of one session of :mod:`fedcredit.protocols.scoring`.

Every two members agree on a key with X25519 (:func:`fedcredit.protocols.pairwise.agree_keys`) when
the session starts, and the platform draws a seed for itself and the providers. From these come,
with HKDF-SHA256 over the digest of a request::

    pair key of i and j, both platform or provider  ->  stream of words, which i adds and j
                                                        subtracts: a share of zero per request
    seed of platform and providers                  ->  32 bytes per request (order of leaves)
    pair key of a party and the institution         ->  a sealing key per direction (AES-256-GCM)

A stream depends on the digest and on the names of all that take part, so the shares of one request
cancel among exactly its participants, and no stream serves two requests: a digest is good for one
mask per session.

Sources: RFC 7748 (X25519), RFC 5869 (HKDF), NIST SP 800-38A and 800-38D (AES in counter mode and
GCM); K. Bonawitz et al., "Practical Secure Aggregation", CCS 2017 (pairwise masks that cancel).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from fedcredit.crypto.encscore import WORD_MASK
from fedcredit.crypto.prg import prg_u64
from fedcredit.errors import InputError, PeerProtocolError, Refusal
from fedcredit.protocols.pairwise import agree_keys
from fedcredit.protocols.scoring_messages import DIGEST_BYTES, ServiceKey, ServiceSeed
from fedcredit.wire import Peers

__all__ = ["ServiceKeys", "agree_service_keys"]

_STEP = "keys of the scoring session"
_INFO = b"fedcredit scoring session v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
SEAL_OVERHEAD = _NONCE_BYTES + 16
"""Bytes that sealing adds."""


def _derive(key: bytes, *info: bytes) -> bytes:
    """Expand a uniform key; every part of the info is preceded by its length."""
    label = b"".join(len(part).to_bytes(4, "little") + part for part in info)
    return HKDFExpand(SHA256(), _KEY_BYTES, label).derive(key)


class ServiceKeys:
    """What one member of a session shares with every other; see :func:`agree_service_keys`.

    Parameters
    ----------
    me, institution, platform : str
        Names; ``me`` may be any member.
    providers : sequence of str
        None, if only the platform serves.
    pair_keys : mapping of str to bytes
        32 bytes per other member.
    seed : bytes
        What platform and providers have in common, 32 bytes; empty at the institution.

    Attributes
    ----------
    me, institution, platform : str
    providers : tuple of str
        Sorted.
    """

    def __init__(
        self,
        me: str,
        institution: str,
        platform: str,
        providers: Sequence[str],
        pair_keys: Mapping[str, bytes],
        seed: bytes,
    ) -> None:
        self.me, self.institution, self.platform = me, institution, platform
        self.providers = tuple(sorted(providers))
        self._seed = seed
        self._streams: dict[str, bytes] = {}
        self._outward: dict[str, AESGCM] = {}
        self._inward: dict[str, AESGCM] = {}
        for name, key in pair_keys.items():
            self._outward[name] = AESGCM(_derive(key, b"seal", me.encode(), name.encode()))
            self._inward[name] = AESGCM(_derive(key, b"seal", name.encode(), me.encode()))
            if institution not in (me, name):
                self._streams[name] = _derive(key, b"mask")
        self._seen: set[bytes] = set()
        self._unmasked: set[bytes] = set()

    def __repr__(self) -> str:
        return f"ServiceKeys({self.me!r}, {len(self.providers)} providers)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    # ------------------------------------------------------------------------------- requests

    def admit(self, request: bytes) -> None:
        """Note a request; once per session.

        Parameters
        ----------
        request : bytes
            Its digest, 32 bytes.

        Raises
        ------
        Refusal
            ``request_repeated``: it came before in this session, whatever became of it.
        """
        if len(request) != DIGEST_BYTES:
            raise InputError("the digest of a request has 32 bytes.", step=_STEP)
        if request in self._seen:
            raise self._repeated()
        self._seen.add(request)
        self._unmasked.add(request)

    def drop(self, request: bytes) -> None:
        """Give no mask for a request any more: it was declined here."""
        self._unmasked.discard(request)

    def mask_words(self, request: bytes, participants: Sequence[str], n: int) -> NDArray[np.uint64]:
        """Give this party's share of zero for a request.

        Parameters
        ----------
        request : bytes
            The request's digest; it is admitted if it was not yet.
        participants : sequence of str
            The providers that take part; the platform does anyway.
        n : int
            How many words.

        Returns
        -------
        ndarray of uint64, shape (n,)
            Below ``2^59``. The shares of all participants and the platform add up to zero modulo
            ``2^59``; all but one of them together are uniform.

        Raises
        ------
        Refusal
            ``request_repeated``: a share of this request was given before.
        InputError
            If this party or a name does not take part.
        """
        group = {self.platform, *participants}
        if self.me not in group or not group <= {self.platform, *self.providers}:
            raise InputError(
                "a share of zero is for the platform and providers of this session.",
                step=_STEP,
                fix="name providers of the session, this one among them",
            )
        if request not in self._seen:
            self.admit(request)
        if request not in self._unmasked:
            raise self._repeated()
        self._unmasked.discard(request)
        names = [name.encode() for name in sorted(group)]
        total = np.zeros(n, np.uint64)
        for name in group - {self.me}:
            part = prg_u64(_derive(self._streams[name], b"words", request, *names), n)
            # In uint64, where 2^59 divides the modulus.
            total = total + part if self.me < name else total - part
        return total & WORD_MASK

    def request_seed(self, request: bytes) -> bytes:
        """Give 32 bytes that platform and providers have in common for a request.

        Raises
        ------
        InputError
            At the institution, which must not know them.
        """
        if not self._seed:
            raise InputError("the institution has no part in the common seed.", step=_STEP)
        return _derive(self._seed, b"request", request)

    def _repeated(self) -> Refusal:
        return Refusal(
            "the same request came before in this session.",
            code="request_repeated",
            party=self.me,
            step="score",
            fix="ask anew: every request has a fresh nonce",
        )

    # -------------------------------------------------------------------------------- sealing

    def seal_to_institution(self, plain: bytes, purpose: bytes) -> bytes:
        """Seal bytes that only the institution opens; 28 bytes longer.

        Parameters
        ----------
        plain : bytes
            What nobody else may read.
        purpose : bytes
            Authenticated and not sent: kind of the bytes and digest of the request, so that they
            open nowhere else.
        """
        return self.seal_to(self.institution, plain, purpose)

    def seal_to(self, name: str, plain: bytes, purpose: bytes) -> bytes:
        """Seal bytes that only the member ``name`` opens; see :meth:`seal_to_institution`."""
        if name not in self._outward:
            raise InputError(f"{name} is no other member of this session.", step=_STEP)
        # A random nonce: safe for 2^32 messages of a pair (NIST SP 800-38D, 8.3).
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._outward[name].encrypt(nonce, plain, purpose)

    def open_from(self, name: str, sealed: bytes, purpose: bytes) -> bytes:
        """Open what the member ``name`` sealed for this one.

        Raises
        ------
        PeerProtocolError
            If it was changed, or sealed by another member, for another purpose or session.
        """
        if name not in self._inward:
            raise InputError(f"{name} is no other member of this session.", step=_STEP)
        try:
            return self._inward[name].decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
        except (InvalidTag, ValueError):
            raise PeerProtocolError(
                f"what {name} sealed does not open: it was changed, or belongs to another request.",
                party=name,
                step="score",
                fix=f"ask again; if it stays so, let {name} check its node",
            ) from None


async def agree_service_keys(
    peers: Peers,
    me: str,
    *,
    institution: str,
    platform: str,
    providers: Sequence[str],
    session: bytes,
) -> ServiceKeys:
    """Agree on fresh keys with every other member, which all do the same.

    Parameters
    ----------
    peers : Peers
        Every other member.
    me : str
        This member's name.
    institution, platform : str
        Their names.
    providers : sequence of str
        All providers of the session.
    session : bytes
        The session's name, the same at every member.

    Raises
    ------
    InputError
        If the names are not different members of this session.
    PeerProtocolError
        If a key is malformed or the common seed does not open.
    """
    members = [institution, platform, *providers]
    others = sorted(name for name in members if name != me)
    if len(set(members)) != len(members) or me not in members or not set(others) <= set(peers):
        raise InputError(
            "the members of a scoring session have different names.",
            step=_STEP,
            fix="name every member once, this one among them",
        )
    found = await agree_keys(
        [peers[name] for name in others], session, _INFO, step=_STEP, message=ServiceKey
    )
    pair_keys = dict(zip(others, found, strict=True))
    seed = secrets.token_bytes(_KEY_BYTES) if me == platform else b""
    keys = ServiceKeys(me, institution, platform, providers, pair_keys, seed)
    purpose = b"common seed" + session
    if me == platform:
        for name in keys.providers:
            await peers[name].send(ServiceSeed(keys.seal_to(name, seed, purpose)))
    elif me != institution:
        sealed = (await peers[platform].recv(ServiceSeed)).sealed
        keys._seed = keys.open_from(platform, sealed, purpose)
        if len(keys._seed) != _KEY_BYTES:
            raise PeerProtocolError(
                "the common seed has another length.", party=platform, step=_STEP
            )
    return keys
