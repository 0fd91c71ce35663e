"""Alignment of small queries against a cached list of tags (one large, stable provider).

The provider computes the values of RFC 9497's OPRF on its ids once per key and keeps them as a
compact sorted list. The platform fetches the list once; afterwards each alignment costs 64 bytes
and about 0.2 ms of both sides' work per platform id, whatever the size of the provider's set. The
idea of precomputing for unbalanced sets: Kiss, Liu, Schneider, Asokan and Pinkas, "Private Set
Intersection for Unequal Set Sizes with Mobile Applications" (PoPETs 2017).

::

    platform                                               provider
      Offer / Answer / Terms                               sizes, floor (align_terms)
      ◄──────────────────────────── ListHead{id, size, capacity}
      Fetch{wanted, queries} ───────────────────────────►  charged to the key's capacity
      ◄──────────────────────────── ListPart{first, data} …        only if wanted
      Query{first, elements} … ─────────────────────────►  r·H(id), uniform
      ◄──────────────────────────── Reply{first, elements} …       k·r·H(id)
      Rows{total, first, rows} … ───────────────────────►  places in the sorted list

=========  =======================================================================================
role       learns
=========  =======================================================================================
platform   the provider's number of ids; which of its own ids are in the list. Over the life of a
           key it can ask ``capacity`` ids, so it can test ids that it does not honestly hold at
           that rate; the provider's budget is the limit. It recognises a list that it has seen
provider   the number of ids asked; which of its own ids are common (only if the floor is reached)
=========  =======================================================================================

Unlike the other strategies the key and the list outlive a run: that is the point, and the reason
for the capacity. A list changes whenever the provider's ids do; comparing the lists of *different*
keys tells nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.oprf import OprfKey, blind_many, finalize_many
from fedcredit.crypto.prg import keyed_hashes
from fedcredit.crypto.taglist import DIGEST_BYTES, TagList, TagShape
from fedcredit.errors import BudgetError, CiphertextError, InputError, PeerProtocolError
from fedcredit.protocols.align_terms import (
    STEP,
    Agreement,
    checked_ids,
    collect,
    from_peer,
    pieces,
)
from fedcredit.protocols.progress import Progress
from fedcredit.wire import Message, Peer, U8x1, U8x2

__all__ = [
    "DEFAULT_CAPACITY",
    "Fetch",
    "KnownLists",
    "ListHead",
    "ListPart",
    "Query",
    "Reply",
    "TagCache",
    "find_cached",
    "serve_cached",
]

DEFAULT_CAPACITY = 1 << 16

_LIST_ID_BYTES = 16
_PART_BYTES = 4 << 20
_BLOCK = 1 << 12
_MAX_CAPACITY = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class ListHead(
    Message,
    kind="align.list-head",
    version=1,
    max_bytes=4 << 10,
    reveals="the provider's number of ids, whether the list is a known one, and its capacity",
):
    """Provider to platform: the list's random 16-byte name, number of tags, and capacity."""

    list_id: bytes
    size: int
    capacity: int


@dataclass(frozen=True, eq=False, repr=False)
class Fetch(
    Message,
    kind="align.list-fetch",
    version=1,
    max_bytes=4 << 10,
    reveals="how many ids the platform asks, and whether it knows the list",
):
    """Platform to provider: whether it needs the list, and how many ids it will ask."""

    wanted: bool
    queries: int


@dataclass(frozen=True, eq=False, repr=False)
class ListPart(
    Message,
    kind="align.list-part",
    version=1,
    reveals="nothing without the key: random tags",
):
    """Provider to platform: bytes of the encoded list; random tags without the key."""

    first: int
    data: U8x1


@dataclass(frozen=True, eq=False, repr=False)
class Query(
    Message,
    kind="align.query",
    version=1,
    reveals="nothing: blinded ids are uniform",
):
    """Platform to provider: blinded ids, shape (rows, 32); uniform group elements."""

    first: int
    elements: U8x2


@dataclass(frozen=True, eq=False, repr=False)
class Reply(
    Message,
    kind="align.reply",
    version=1,
    reveals="which of the asked ids are in the list",
):
    """Provider to platform: the elements under the key, shape (rows, 32); uniform likewise."""

    first: int
    elements: U8x2


class TagCache:
    """A provider's key with the sorted tags of its ids.

    Made by :meth:`build`, kept as long as the ids and the key live. Shows no secret and cannot be
    pickled.

    Attributes
    ----------
    list_id : bytes
        Random name of the list.
    tags : TagList
    remaining : int
        Queries left before the key must be renewed.
    """

    def __init__(
        self, key: OprfKey, tags: TagList, order: NDArray[np.int64], fingerprint: bytes
    ) -> None:
        self._key = key
        self._order = order
        self._fingerprint = fingerprint
        self.tags = tags
        self.list_id = secrets.token_bytes(_LIST_ID_BYTES)
        self.remaining = tags.shape.capacity

    @classmethod
    def build(
        cls,
        ids: Sequence[bytes] | NDArray[np.bytes_],
        *,
        capacity: int = DEFAULT_CAPACITY,
        threads: int | None = None,
        on_progress: Progress | None = None,
    ) -> TagCache:
        """Draw a key and compute the tags, about 66 µs of one core per id.

        Parameters
        ----------
        ids : sequence of bytes
            Distinct normalised ids, at least one.
        capacity : int, default 65536
            Ids that may be asked under this key, over all runs.
        threads : int, optional
            Default up to 4.
        on_progress : callable, optional
            Called with (step, done, total).

        Returns
        -------
        TagCache

        Raises
        ------
        InputError
            If the ids are not distinct nonempty bytes, or the capacity is out of range.
        """
        items = checked_ids(ids)
        if not items or not 1 <= capacity <= _MAX_CAPACITY:
            raise InputError("a cached list needs ids and a capacity of 1 to 2^30.", step=STEP)
        report: Callable[[int, int], None] | None = None
        if on_progress is not None:
            tell = on_progress

            def report(done: int, total: int) -> None:
                tell("align: cached list", done, total)

        while True:
            key = OprfKey.generate()
            digests = key.evaluate_many(
                items, size=DIGEST_BYTES, threads=threads, on_progress=report
            )
            try:
                tags, order = TagList.build(digests, capacity)
            except CiphertextError:
                # Two tags met, at most once in 2^16 keys: the next key parts them.
                continue
            return cls(key, tags, order, _fingerprint(key, items))

    def __repr__(self) -> str:
        return f"TagCache(n={len(self.tags)}, remaining={self.remaining})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a tag cache holds a key and is never pickled")

    def order_of(self, items: list[bytes]) -> NDArray[np.int64]:
        """Return the row at every place of the list, if the list was built of these ids.

        Raises
        ------
        InputError
            If the ids or their order have changed.
        """
        if _fingerprint(self._key, items) != self._fingerprint:
            raise InputError(
                "the cached tag list was built of other ids.",
                step=STEP,
                fix="build it again with TagCache.build",
            )
        return self._order

    def spend(self, queries: int) -> None:
        """Charge queries to the capacity.

        Raises
        ------
        BudgetError
            If they exceed what is left.
        """
        if queries > self.remaining:
            raise BudgetError(
                "the cached list's key has answered as many ids as it may.",
                step=STEP,
                fix="renew the list with TagCache.build, or use strategy='private'",
            )
        self.remaining -= queries

    def answer(self, elements: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put blinded elements, uint8 of shape (n, 32), under the key."""
        return self._key.blind_evaluate_many(elements)


def _fingerprint(key: OprfKey, items: list[bytes]) -> bytes:
    joined = b"".join(len(item).to_bytes(2, "big") + item for item in items)
    return keyed_hashes(key.private_bytes(), [joined], 32, b"fedcredit cache").tobytes()


class KnownLists:
    """A platform's copies of providers' lists, by the list's name."""

    def __init__(self) -> None:
        self._lists: dict[bytes, TagList] = {}

    def __repr__(self) -> str:
        return f"KnownLists({len(self._lists)})"

    def get(self, list_id: bytes, shape: TagShape) -> TagList | None:
        """Return the copy of a list if it is known and of this shape."""
        tags = self._lists.get(list_id)
        return tags if tags is not None and tags.shape == shape else None

    def add(self, list_id: bytes, tags: TagList) -> None:
        """Keep a list."""
        self._lists[list_id] = tags


async def find_cached(
    peer: Peer,
    ids: list[bytes],
    agreement: Agreement,
    known: KnownLists,
    on_progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Find the platform's ids in the provider's cached list (the platform's side).

    Parameters
    ----------
    peer : Peer
        The provider.
    ids : list of bytes
        One or more distinct ids.
    agreement : Agreement
    known : KnownLists
        Copies from earlier runs; a new list is added.
    on_progress : callable, optional

    Returns
    -------
    ndarray of int64, shape (n,)
        Place of every id in the provider's list, or −1.
    """
    head = await peer.recv(ListHead)
    if len(head.list_id) != _LIST_ID_BYTES or head.size != agreement.peer_size:
        raise PeerProtocolError(f"the tag list of {peer.name} has a malformed head.", step=STEP)
    if not 1 <= head.capacity <= _MAX_CAPACITY:
        raise PeerProtocolError(f"the tag list of {peer.name} has no usable capacity.", step=STEP)
    with from_peer(peer):
        shape = TagShape(head.size, head.capacity)
    tags = known.get(head.list_id, shape)
    await peer.send(Fetch(tags is None, len(ids)))
    if tags is None:
        data = np.empty(shape.n_bytes, np.uint8)
        await collect(peer, ListPart, "data", data)
        with from_peer(peer):
            tags = TagList(shape, data)
        known.add(head.list_id, tags)
    # Unblinding one block while the provider works on the next: two blocks are under way.
    places = np.empty(len(ids), np.int64)
    blocks = list(range(0, len(ids), _BLOCK))
    under_way: list[tuple[int, list[bytes]]] = []
    for first in [*blocks, None]:
        if first is not None:
            scalars, elements = blind_many(ids[first : first + _BLOCK])
            await peer.send(Query(first, elements))
            under_way.append((first, scalars))
        if len(under_way) > 1 or first is None:
            at, scalars = under_way.pop(0)
            stop = at + len(scalars)
            reply = await peer.recv(Reply)
            if reply.first != at:
                raise PeerProtocolError(f"a reply of {peer.name} is out of place.", step=STEP)
            with from_peer(peer):
                digests = finalize_many(ids[at:stop], scalars, reply.elements, size=DIGEST_BYTES)
            places[at:stop] = tags.find(digests)
            if on_progress is not None:
                on_progress("align: queries", stop, len(ids))
    return places


async def serve_cached(
    peer: Peer,
    ids: list[bytes],
    agreement: Agreement,
    cache: TagCache,
    on_progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Answer the platform's queries against the cached list (the provider's side).

    Parameters
    ----------
    peer : Peer
        The platform.
    ids : list of bytes
        The ids that the cache was built of, in the same order.
    agreement : Agreement
    cache : TagCache
    on_progress : callable, optional

    Returns
    -------
    ndarray of int64, shape (n,)
        The own row at every place of the list.

    Raises
    ------
    BudgetError
        If the key's capacity does not cover the queries.
    """
    order = cache.order_of(ids)
    await peer.send(ListHead(cache.list_id, len(cache.tags), cache.tags.shape.capacity))
    fetch = await peer.recv(Fetch)
    if not 1 <= fetch.queries <= agreement.peer_size:
        raise PeerProtocolError(f"{peer.name} asks another number of ids.", step=STEP)
    cache.spend(fetch.queries)
    if fetch.wanted:
        for first, part in pieces(cache.tags.data, _PART_BYTES):
            await peer.send(ListPart(first, part))
    at = 0
    while at < fetch.queries:
        query = await peer.recv(Query)
        stop = at + len(query.elements)
        if query.first != at or not at < stop <= fetch.queries:
            raise PeerProtocolError(f"a query of {peer.name} is out of place.", step=STEP)
        with from_peer(peer):
            answer = cache.answer(query.elements)
        await peer.send(Reply(at, answer))
        at = stop
        if on_progress is not None:
            on_progress("align: queries", at, fetch.queries)
    return order
