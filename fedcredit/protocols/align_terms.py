"""What every kind of alignment begins and ends with: agreed terms, and the common order.

::

    platform                                        each provider
      Offer{strategy, size, floor, commitment} ────►
      ◄──── Answer{strategy, size, floor, coin}
      Terms{floor, coin} ────►
                  … the strategy finds the common ids …
      Rows{total, first, rows} ────►                    (strategies that give places in a list)

The floor that counts is the highest of all parties. The key of the run is made from coins of both
parties; the platform commits to its own before it sees the provider's, so that neither side can
steer the key (Blum's coin toss, 1981).

=============  ==================================================================================
role           learns
=============  ==================================================================================
platform       every provider's number of ids and floor
each provider  the platform's number of ids, the highest floor, and the common rows at the end
=============  ==================================================================================

When the intersection stays below the floor the platform's role raises
:class:`~fedcredit.errors.PolicyError`, and so does, through the session's abort, every provider's;
the message does not say how many ids there were. (The platform has computed the intersection by
then and knows it.)
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedcredit.crypto.prg import secure_permutation
from fedcredit.errors import CryptoError, InputError, PeerProtocolError, PolicyError
from fedcredit.wire import Message, Peer, Peers, U32x1

__all__ = [
    "STEP",
    "Agreement",
    "Answer",
    "Offer",
    "Rows",
    "Terms",
    "agree_platform",
    "agree_provider",
    "announce_rows",
    "checked_ids",
    "checked_session",
    "collect",
    "from_peer",
    "learn_rows",
    "pieces",
    "require_floor",
    "shuffled",
]

STEP = "align"
COIN_BYTES = 32
BLOCK = 1 << 16
_COMMIT = b"fedcredit/align/1/coin"
_MAX_IDS = 1 << 24

#: Called with the step, how much of it is done, and how much there is.


@dataclass(frozen=True, eq=False, repr=False)
class Offer(
    Message,
    kind="align.offer",
    version=1,
    max_bytes=4 << 10,
    reveals="the platform's number of ids and its floor",
):
    """Platform to each provider. Reveals how many ids the platform brings and its floor.

    ``size`` and ``floor`` are numbers of ids; ``commitment`` is 32 bytes, SHA-256 over the session
    and a random coin.
    """

    strategy: str
    size: int
    floor: int
    commitment: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Answer(
    Message,
    kind="align.answer",
    version=1,
    max_bytes=4 << 10,
    reveals="the provider's number of ids and its floor",
):
    """Provider to platform. Reveals how many ids the provider brings and its floor.

    ``coin`` is 32 random bytes.
    """

    strategy: str
    size: int
    floor: int
    coin: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Terms(
    Message,
    kind="align.terms",
    version=1,
    max_bytes=4 << 10,
    reveals="the highest floor of all parties",
):
    """Platform to each provider. Reveals the highest floor; ``coin`` opens the commitment."""

    floor: int
    coin: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Rows(
    Message,
    kind="align.rows",
    version=1,
    reveals="which of the provider's ids are common to all parties, and their order",
):
    """Platform to a provider: which places of the provider's hidden list are common, in order.

    ``total`` places in all, this message's from ``first`` on. Reveals the common ids to the
    provider, who alone knows what stands where in its list, and the order of the joint rows, which
    is random.
    """

    total: int
    first: int
    rows: U32x1


class Agreement:
    """The terms of one run between the platform and one provider, with the run's secret.

    Attributes
    ----------
    size, peer_size : int
        Numbers of ids here and there.
    floor : int
        Least size of the intersection, the highest of all parties.
    """

    __slots__ = ("_root", "_session", "floor", "peer_size", "size")

    def __init__(
        self, session: bytes, coins: tuple[bytes, bytes], size: int, peer_size: int, floor: int
    ) -> None:
        self._session = session
        self._root = coins[0] + coins[1]
        self.size = size
        self.peer_size = peer_size
        self.floor = floor

    def __repr__(self) -> str:
        return f"Agreement(size={self.size}, peer_size={self.peer_size}, floor={self.floor})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an agreement holds the run's key and is never pickled")

    def key(self, purpose: bytes) -> bytes:
        """Derive the 32-byte key of one purpose (HKDF-SHA256, RFC 5869)."""
        return HKDF(SHA256(), 32, self._session, b"fedcredit/align/1/" + purpose).derive(self._root)


def checked_ids(ids: Sequence[bytes] | NDArray[np.bytes_]) -> list[bytes]:
    """Return ids as a list of bytes.

    Raises
    ------
    InputError
        If one is not bytes, empty or occurs twice, or there are more than 2^24.
    """
    items: list[bytes] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    fix = "pass the ids that fedcredit.uscc.normalise returns"
    if not all(isinstance(item, bytes) for item in items):
        raise InputError("ids must be bytes.", step=STEP, fix=fix)
    if not all(items):
        raise InputError("an id is empty.", step=STEP, fix=fix)
    if len(set(items)) != len(items):
        raise InputError("an id occurs twice.", step=STEP, fix=fix)
    if len(items) > _MAX_IDS:
        raise InputError(
            f"more than {_MAX_IDS} ids in one alignment.",
            step=STEP,
            fix="align in parts, for instance by region",
        )
    return items


def checked_session(session: bytes) -> bytes:
    """Return the session's name if it has at least 16 bytes."""
    if not isinstance(session, bytes) or len(session) < 16:
        raise InputError(
            "the session name must be at least 16 bytes.",
            step=STEP,
            fix="use fedcredit.wire.new_session()",
        )
    return session


def _checked_floor(floor: int) -> int:
    if floor < 1:
        raise InputError("the floor of an intersection must be at least 1.", step=STEP)
    return floor


def require_floor(count: int, floor: int) -> None:
    """Refuse a count below the floor.

    Raises
    ------
    PolicyError
        Without the count.
    """
    if count < floor:
        raise PolicyError(
            "the parties have fewer common ids than the agreed floor.",
            step=STEP,
            fix="check that all parties use the same kind of id and the same population, "
            "or agree on a lower floor",
        )


@contextmanager
def from_peer(peer: Peer) -> Iterator[None]:
    """Turn a refusal of what a peer sent into a PeerProtocolError that names the peer."""
    try:
        yield
    except CryptoError as error:
        raise PeerProtocolError(
            f"what {peer.name} sent cannot be used: {error.reason}",
            step=STEP,
            fix="run the same release of fedcredit at every party",
        ) from error


def _commit(session: bytes, coin: bytes) -> bytes:
    return hashlib.sha256(_COMMIT + len(session).to_bytes(4, "big") + session + coin).digest()


def _refuse_strategy(peer: Peer) -> PeerProtocolError:
    return PeerProtocolError(
        f"{peer.name} uses another strategy of alignment.",
        step=STEP,
        fix="give the same strategy at every party",
    )


def _checked_head(peer: Peer, size: int, floor: int, secret: bytes) -> None:
    if not 0 <= size <= _MAX_IDS or floor < 1 or len(secret) != COIN_BYTES:
        raise PeerProtocolError(f"{peer.name} sent terms that are out of range.", step=STEP)


async def agree_platform(
    peers: Peers, size: int, *, strategy: str, floor: int, session: bytes
) -> dict[str, Agreement]:
    """Agree on the terms with every provider (the platform's side).

    Parameters
    ----------
    peers : Peers
        Exactly the providers.
    size : int
        The platform's number of ids.
    strategy : str
        Must be the same everywhere.
    floor : int
        The platform's floor, 1 or more.
    session : bytes
        The session's name, 16 bytes or more.

    Returns
    -------
    dict of provider name to Agreement

    Raises
    ------
    PolicyError
        If a party has fewer ids than the floor.
    PeerProtocolError
        If a provider's terms do not fit.
    """
    checked_session(session)
    coins = {name: secrets.token_bytes(COIN_BYTES) for name in peers}
    for name, peer in peers.items():
        await peer.send(Offer(strategy, size, _checked_floor(floor), _commit(session, coins[name])))
    answers = await peers.gather(Answer)
    for name, answer in answers.items():
        if answer.strategy != strategy:
            raise _refuse_strategy(peers[name])
        _checked_head(peers[name], answer.size, answer.floor, answer.coin)
    floor = max([floor, *(answer.floor for answer in answers.values())])
    for name, peer in peers.items():
        await peer.send(Terms(floor, coins[name]))
    require_floor(min([size, *(answer.size for answer in answers.values())]), floor)
    return {
        name: Agreement(session, (coins[name], answer.coin), size, answer.size, floor)
        for name, answer in answers.items()
    }


async def agree_provider(
    peer: Peer, size: int, *, strategy: str, floor: int, session: bytes
) -> Agreement:
    """Agree on the terms with the platform (a provider's side); see `agree_platform`."""
    checked_session(session)
    _checked_floor(floor)
    offer = await peer.recv(Offer)
    if offer.strategy != strategy:
        raise _refuse_strategy(peer)
    _checked_head(peer, offer.size, offer.floor, offer.commitment)
    coin = secrets.token_bytes(COIN_BYTES)
    await peer.send(Answer(strategy, size, floor, coin))
    terms = await peer.recv(Terms)
    if _commit(session, terms.coin) != offer.commitment or len(terms.coin) != COIN_BYTES:
        raise PeerProtocolError(
            f"the coin of {peer.name} does not open its commitment.",
            step=STEP,
            fix="give the same session at every party",
        )
    if terms.floor < max(floor, offer.floor):
        raise PeerProtocolError(f"{peer.name} lowered the agreed floor.", step=STEP)
    require_floor(min(size, offer.size), terms.floor)
    return Agreement(session, (terms.coin, coin), size, offer.size, terms.floor)


T = TypeVar("T", bound=np.generic)


def pieces(array: NDArray[T], block: int = BLOCK) -> Iterator[tuple[int, NDArray[T]]]:
    """Cut an array into blocks of rows, each with its first row."""
    for first in range(0, len(array), block):
        yield first, array[first : first + block]


async def collect(peer: Peer, kind: type[Any], field: str, out: NDArray[Any]) -> None:
    """Fill ``out`` from messages of one kind whose ``field`` continues at ``first``.

    Raises
    ------
    PeerProtocolError
        If a block is empty, out of place or of another shape.
    """
    at = 0
    while at < len(out):
        message = await peer.recv(kind)
        part = getattr(message, field)
        stop = at + len(part)
        fits = message.first == at < stop <= len(out) and part.shape[1:] == out.shape[1:]
        if not fits:
            raise PeerProtocolError(
                f"a {kind.kind} block of {peer.name} has the wrong place or shape.", step=STEP
            )
        out[at:stop] = part
        at = stop


def shuffled(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put the common rows in a fresh random order, so that a place tells nothing of an id."""
    return found[secure_permutation(len(found))]


async def announce_rows(peer: Peer, rows: NDArray[np.int64]) -> None:
    """Tell a provider the common places of its list, in the common order (the platform's side)."""
    for first, part in pieces(rows.astype(np.uint32), 4 * BLOCK):
        await peer.send(Rows(len(rows), first, part))


async def learn_rows(peer: Peer, order: NDArray[np.int64], floor: int) -> NDArray[np.int64]:
    """Receive the common places and translate them to own rows (a provider's side).

    Parameters
    ----------
    peer : Peer
        The platform.
    order : ndarray of int64, shape (n,)
        The own row at every place of the hidden list.
    floor : int
        The agreed floor.

    Returns
    -------
    ndarray of int64, shape (number of common ids,)

    Raises
    ------
    PolicyError
        If there are fewer than the floor.
    PeerProtocolError
        If a place is out of range or occurs twice.
    """
    parts: list[NDArray[np.uint32]] = []
    total, at = None, 0
    while total is None or at < total:
        message = await peer.recv(Rows)
        total = message.total if total is None else total
        stop = at + len(message.rows)
        if message.total != total or message.first != at or not at < stop <= total <= len(order):
            raise PeerProtocolError(
                f"an align.rows block of {peer.name} has the wrong place or size.", step=STEP
            )
        parts.append(message.rows)
        at = stop
    places = np.concatenate(parts).astype(np.int64)
    if np.any(places >= len(order)) or len(np.unique(places)) != len(places):
        raise PeerProtocolError(f"{peer.name} named a row twice, or one out of range.", step=STEP)
    require_floor(len(places), floor)
    return order[places]
