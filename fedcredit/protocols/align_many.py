"""Private alignment of a platform with any number of providers, and the entry for callers.

Strategies
----------
``"private"`` (default)
    One provider: `fedcredit.protocols.align`. Two or more: the multi-party protocol below, which
    shows nobody which ids are common to only some of the parties.
``"pairwise"``
    The platform aligns with one provider after the other, each time with the ids that are still
    common. Simpler and with less work for later providers, but the platform learns every
    intermediate intersection and provider k the size of the one before it.
``"cached"``
    The same chain over cached tag lists (`fedcredit.protocols.align_cached`), for small queries.

The multi-party protocol is that of Kolesnikov, Matania, Pinkas, Rosulek and Trieu, "Practical
Multi-party Private Set Intersection from Symmetric-Key Techniques" (CCS 2017, ePrint 2017/799), in
the augmented semi-honest form, as a star around the platform. Every two providers i, j share a key,
so that each provider can compute a share of zero for any id:

    s_i(id) = ⊕_j PRF(k_ij, id),    and ⊕_i s_i(id) = 0.

::

    platform                                  provider i
      Offer / Answer / Terms                  sizes, floor (align_terms)
                                              ShareKey{X25519 public key} ⇄ every other provider
      Setup … Columns                         OPRF F_i as in `align`; 8 bytes mask f_i, a tag t_i
      ◄─────────────── StoreHead, StorePart …  key-value store  id → s_i(id) ⊕ f_i(id)
      for each own id: ⊕_i (store_i(id) ⊕ f_i(id)) is 0 if all providers hold it,
      otherwise random
      Found{total, first, tags} … ──────────►  t_i of the common ids, in a random order

=============  ==================================================================================
role           learns
=============  ==================================================================================
platform       each provider's number of ids; which of its own ids *all* providers hold (also when
               the run then stops below the floor); not which ids some of the providers hold
each provider  the platform's number of ids, the highest floor; which of its own ids all parties
               hold (only if the floor is reached); nothing of the other providers' sets
=============  ==================================================================================

The parties are semi-honest (for a platform that deviates see `fedcredit.protocols.align`). If the
platform colludes with all providers but one, they learn that one's intersection with the platform's
set, and with all but two that of the pair. An id that is not common passes by chance with
probability 2^-64, at most 2^-40 per run. The providers' public keys are relayed by the hub; what
protects them is the signature that every envelope bears.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto import okvs
from fedcredit.crypto.prg import keyed_hashes
from fedcredit.crypto.taglist import join_tags, tag_bytes
from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.protocols.align import find_rows, oprf_receive, oprf_send, serve_rows
from fedcredit.protocols.align_cached import KnownLists, TagCache, find_cached, serve_cached
from fedcredit.protocols.align_terms import (
    STEP,
    Agreement,
    agree_platform,
    agree_provider,
    announce_rows,
    checked_ids,
    collect,
    from_peer,
    learn_rows,
    pieces,
    require_floor,
    shuffled,
)
from fedcredit.protocols.pairwise import PairKey, agree_keys
from fedcredit.protocols.progress import Progress
from fedcredit.wire import Message, Peer, Peers, U8x2, U64x1

__all__ = [
    "Found",
    "ShareKey",
    "StoreHead",
    "StorePart",
    "Strategy",
    "align_platform",
    "align_provider",
]

Strategy = Literal["private", "pairwise", "cached"]

_MASK_BYTES = 8
_SHARE = b"fedcredit share"
_WORDS = 1 << 17
_TAGS = 1 << 16


@dataclass(frozen=True, eq=False, repr=False)
class ShareKey(
    PairKey,
    kind="align.share-key",
    version=1,
    max_bytes=4 << 10,
    reveals="nothing: a random public key",
):
    """Provider to provider: a fresh X25519 public key, 32 bytes."""


@dataclass(frozen=True, eq=False, repr=False)
class StoreHead(
    Message,
    kind="align.store-head",
    version=1,
    max_bytes=4 << 10,
    reveals="the provider's number of ids",
):
    """Provider to platform: the store's 16-byte random seed and its number of ids."""

    seed: bytes
    n_keys: int


@dataclass(frozen=True, eq=False, repr=False)
class StorePart(
    Message,
    kind="align.store-part",
    version=1,
    reveals="which of the platform's ids all providers hold, once all stores are there",
):
    """Provider to platform: words of the key-value store; uniform without the providers' keys."""

    first: int
    words: U64x1


@dataclass(frozen=True, eq=False, repr=False)
class Found(
    Message,
    kind="align.found",
    version=1,
    reveals="which of the provider's ids are common to all parties, and their order",
):
    """Platform to provider: tags of the common ids in the common order, shape (rows, bytes).

    Values of the run's function, which only these two parties can compute. Reveals the common ids
    to the provider; ``total`` is their number.
    """

    total: int
    first: int
    tags: U8x2


async def align_platform(
    peers: Peers,
    ids: Sequence[bytes] | NDArray[np.bytes_],
    *,
    strategy: str = "private",
    floor: int,
    session: bytes,
    known: KnownLists | None = None,
    on_progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Align the platform's ids with those of all providers.

    Parameters
    ----------
    peers : Peers
        Exactly the providers, one or more.
    ids : sequence of bytes
        Distinct normalised ids.
    strategy : {"private", "pairwise", "cached"}, default "private"
        See the module; the same at every party.
    floor : int
        Least number of common ids, 1 or more. The highest floor of all parties counts.
    session : bytes
        The session's name, 16 bytes or more, the same at every party.
    known : KnownLists, optional
        With ``"cached"``: copies of lists from earlier runs.
    on_progress : callable, optional
        Called with (step, done, total).

    Returns
    -------
    ndarray of int64, shape (number of common ids,)
        Rows of ``ids`` in the common order, which is random.

    Raises
    ------
    InputError
        If the ids are not distinct nonempty bytes, or an argument does not fit.
    PolicyError
        If there are fewer common ids than the floor; the message does not say how many.
    PeerProtocolError
        If a provider breaks the protocol.
    """
    items = checked_ids(ids)
    _check_strategy(strategy)
    if not len(peers):
        raise InputError("an alignment needs at least one provider.", step=STEP)
    agreements = await agree_platform(
        peers, len(items), strategy=strategy, floor=floor, session=session
    )
    if strategy == "private" and len(peers) > 1:
        return await _private_platform(peers, items, agreements, on_progress)
    lists = KnownLists() if known is None else known
    rows = np.arange(len(items))
    places = np.empty((len(peers), len(items)), np.int64)
    for index, (name, peer) in enumerate(peers.items()):
        asked = [items[row] for row in rows] if index else items
        if strategy == "cached":
            at = await find_cached(peer, asked, agreements[name], lists, on_progress)
        else:
            at = await find_rows(peer, asked, agreements[name], on_progress)
        places[index, rows] = at
        rows = rows[at >= 0]
        require_floor(len(rows), agreements[name].floor)
    rows = shuffled(rows)
    for index, peer in enumerate(peers.values()):
        await announce_rows(peer, places[index, rows])
    return rows


async def align_provider(
    peers: Peers,
    platform: str,
    others: Sequence[str],
    ids: Sequence[bytes] | NDArray[np.bytes_],
    *,
    strategy: str = "private",
    floor: int,
    session: bytes,
    cache: TagCache | None = None,
    on_progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Align a provider's ids with those of the platform and of all other providers.

    Parameters
    ----------
    peers : Peers
        The platform and the other providers.
    platform : str
        The platform's name.
    others : sequence of str
        The other providers' names; empty if there is none.
    ids : sequence of bytes
        Distinct normalised ids.
    strategy, floor, session, on_progress
        As for `align_platform`.
    cache : TagCache, optional
        With ``"cached"``: the list built of exactly these ids. Default: built for this run.

    Returns
    -------
    ndarray of int64, shape (number of common ids,)
        Rows of ``ids`` in the common order.

    Raises
    ------
    InputError
        If the ids are not distinct nonempty bytes, or an argument does not fit.
    PolicyError
        If there are fewer common ids than the floor; the message does not say how many.
    BudgetError
        If a cached list's capacity does not cover the queries.
    PeerProtocolError
        If a peer breaks the protocol.
    """
    items = checked_ids(ids)
    _check_strategy(strategy)
    absent = [name for name in (platform, *others) if name not in peers]
    if absent or platform in others or len(set(others)) != len(others):
        raise InputError(
            "the platform and the other providers must be different peers of this session.",
            step=STEP,
        )
    peer = peers[platform]
    agreement = await agree_provider(
        peer, len(items), strategy=strategy, floor=floor, session=session
    )
    if strategy == "private" and others:
        neighbours = [peers[name] for name in others]
        return await _private_provider(peer, neighbours, items, agreement, session, on_progress)
    if strategy == "cached":
        if cache is None:
            cache = TagCache.build(items, capacity=agreement.peer_size, on_progress=on_progress)
        order = await serve_cached(peer, items, agreement, cache, on_progress)
    else:
        order = await serve_rows(peer, items, agreement, on_progress)
    return await learn_rows(peer, order, agreement.floor)


def _check_strategy(strategy: str) -> None:
    if strategy not in get_args(Strategy):
        raise InputError(
            "there is no such strategy of alignment.",
            step=STEP,
            fix=f"use one of {', '.join(get_args(Strategy))}",
        )


def _split(outputs: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Cut function values into a 64-bit mask and a tag."""
    masks = np.ascontiguousarray(outputs[:, :_MASK_BYTES]).view("<u8").reshape(-1)
    return masks.astype(np.uint64, copy=False), outputs[:, _MASK_BYTES:]


async def _private_platform(
    peers: Peers,
    items: list[bytes],
    agreements: dict[str, Agreement],
    on_progress: Progress | None,
) -> NDArray[np.int64]:
    total = np.zeros(len(items), np.uint64)
    tags: dict[str, NDArray[np.uint8]] = {}
    for name, peer in peers.items():
        agreement = agreements[name]
        size = _MASK_BYTES + tag_bytes(len(items), agreement.peer_size)
        hashes, outputs = await oprf_receive(peer, items, agreement, size, on_progress)
        masks, tags[name] = _split(outputs)
        head = await peer.recv(StoreHead)
        if head.n_keys != agreement.peer_size:
            raise PeerProtocolError(f"the store of {name} has another number of ids.", step=STEP)
        words = np.empty(okvs.table_words(head.n_keys), np.uint64)
        await collect(peer, StorePart, "words", words)
        with from_peer(peer):
            store = okvs.Okvs(head.seed, head.n_keys, words)
        total ^= okvs.decode(store, hashes) ^ masks
    rows = np.flatnonzero(total == 0)
    require_floor(len(rows), min(agreement.floor for agreement in agreements.values()))
    rows = shuffled(rows)
    for name, peer in peers.items():
        for first, part in pieces(tags[name][rows], _TAGS):
            await peer.send(Found(len(rows), first, part))
    return rows


async def _private_provider(
    peer: Peer,
    others: list[Peer],
    items: list[bytes],
    agreement: Agreement,
    session: bytes,
    on_progress: Progress | None,
) -> NDArray[np.int64]:
    shares = np.zeros(len(items), np.uint64)
    for key in await agree_keys(others, session, _SHARE, step=STEP, message=ShareKey):
        part = keyed_hashes(key, items, _MASK_BYTES, _SHARE)
        shares ^= part.view("<u8").astype(np.uint64, copy=False).reshape(-1)
    hashes, outputs = await oprf_send(
        peer, items, agreement, extra=_MASK_BYTES, on_progress=on_progress
    )
    masks, tags = _split(outputs)
    store = okvs.encode(hashes, shares ^ masks)
    await peer.send(StoreHead(store.seed, store.n_keys))
    for first, words in pieces(store.table, _WORDS):
        await peer.send(StorePart(first, words))
    return await _learn_found(peer, tags, agreement.floor)


async def _learn_found(peer: Peer, tags: NDArray[np.uint8], floor: int) -> NDArray[np.int64]:
    """Receive the tags of the common ids and find the own rows."""
    first = await peer.recv(Found)
    total = first.total
    if not 1 <= total <= len(tags):
        raise PeerProtocolError(f"{peer.name} found an impossible number of ids.", step=STEP)
    parts, at, message = [], 0, first
    while True:
        stop = at + len(message.tags)
        if (
            message.total != total
            or message.first != at
            or not at < stop <= total
            or message.tags.shape[1] != tags.shape[1]
        ):
            raise PeerProtocolError(
                f"an align.found block of {peer.name} has the wrong place or shape.", step=STEP
            )
        parts.append(message.tags)
        at = stop
        if at == total:
            break
        message = await peer.recv(Found)
    with from_peer(peer):
        rows = join_tags(np.concatenate(parts), tags)
    if np.any(rows < 0) or len(np.unique(rows)) != len(rows):
        raise PeerProtocolError(f"{peer.name} named an id twice, or one unknown.", step=STEP)
    require_floor(len(rows), floor)
    return rows
