"""Private alignment of two parties: set intersection by an oblivious pseudorandom function.

Chase and Miao, "Private Set Intersection in the Internet Setting From Lightweight Oblivious PRF"
(CRYPTO 2020, ePrint 2020/729). The platform evaluates the provider's function on its own ids
without showing them; the provider sends the function's values on its ids as tags in a random
order; equal values are common ids.

::

    platform (OPRF receiver)                               provider (OPRF sender)
      Offer / Answer / Terms                               sizes, floor, key (align_terms)
      Setup{matrix, rows, base OT opening} ────────────►
      ◄──────────────────────── Choices{base OT reply}     one OT per column; choices = OPRF key
      PlaceKey{key of F} ──────────────────────────────►
      Columns{first, Δ} … ─────────────────────────────►   both compute their outputs meanwhile
      ◄──────────────────────── Tags{first, tags} …        outputs of all provider ids, permuted
      Rows{total, first, rows} … ──────────────────────►   places of the common tags, random order

=========  =======================================================================================
role       learns
=========  =======================================================================================
platform   the provider's number of ids; which of its own ids are common (also when the run then
           stops below the floor); of the provider's other ids nothing but their number
provider   the platform's number of ids; which of its own ids are common (only if the floor is
           reached); of the platform's other ids nothing but their number
hub        if it is not the platform: sizes and times
=========  =======================================================================================

The parties are semi-honest. A platform that deviates can leave the bit matrix empty, unseen by the
provider, and then evaluate the function on any ids it likes instead of the number it declared;
where that must be excluded, the strategy ``"cached"`` counts every id that is asked.

Failure probabilities are 2^-40 per run (a tag that meets another id's, a foreign tag that is less
than 128 bits away from what the platform can compute). Keys, permutation and order are drawn anew
for every run, so runs cannot be linked. Two runs over changing sets show the difference of their
intersections to both parties; that is what alignment means.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.base_ot import BaseOTReceiver, BaseOTSender
from fedcredit.crypto.cm20 import SEED_BYTES, Cm20Receiver, Cm20Sender, hash_ids
from fedcredit.crypto.cm20_parameters import Cm20Parameters
from fedcredit.crypto.prg import secure_permutation
from fedcredit.crypto.taglist import join_tags, tag_bytes
from fedcredit.errors import InputError, PeerProtocolError
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
from fedcredit.protocols.progress import Progress
from fedcredit.wire import Message, Peer, Peers, U8x2, U64x2

__all__ = [
    "Choices",
    "Columns",
    "PlaceKey",
    "Setup",
    "Tags",
    "find_rows",
    "oprf_receive",
    "oprf_send",
    "platform_role",
    "provider_role",
    "serve_rows",
]

STRATEGY = "private"


@dataclass(frozen=True, eq=False, repr=False)
class Setup(
    Message,
    kind="align.setup",
    version=1,
    reveals="the platform's number of ids in this run",
):
    """Platform to provider: shape of the bit matrix, ids in this run, opening of the base OTs.

    ``ot`` is 32 bytes per column, random group elements. ``rows`` reveals how many ids the
    platform puts into this run: all, or with pairwise alignment those that are still common.
    """

    log_rows: int
    width: int
    rows: int
    ot: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Choices(
    Message,
    kind="align.choices",
    version=1,
    reveals="nothing: random group elements",
):
    """Provider to platform: reply of the base OTs, 64 bytes per column, random group elements."""

    ot: bytes


@dataclass(frozen=True, eq=False, repr=False)
class PlaceKey(
    Message,
    kind="align.place-key",
    version=1,
    max_bytes=4 << 10,
    reveals="nothing: a random key",
):
    """Platform to provider: the 16-byte key of F, random."""

    key: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Columns(
    Message,
    kind="align.columns",
    version=1,
    max_bytes=1 << 30,
    reveals="nothing: uniform without the missing seeds",
):
    """Platform to provider: masked columns, shape (columns, matrix rows / 64).

    Uniform to the provider, who lacks one seed of every column.
    """

    first: int
    columns: U64x2


@dataclass(frozen=True, eq=False, repr=False)
class Tags(
    Message,
    kind="align.tags",
    version=1,
    reveals="which of the platform's ids the provider holds too",
):
    """Provider to platform: function values of the provider's ids, permuted; shape (rows, bytes).

    Tags of common ids tell the platform that they are common; all others are random to it.
    """

    first: int
    tags: U8x2


async def oprf_receive(
    peer: Peer,
    ids: list[bytes],
    agreement: Agreement,
    size: int,
    on_progress: Progress | None = None,
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Evaluate the provider's function on the platform's ids (the platform's side).

    Parameters
    ----------
    peer : Peer
        The provider.
    ids : list of bytes
        One or more distinct ids.
    agreement : Agreement
    size : int
        Bytes per output, the same on both sides.
    on_progress : callable, optional

    Returns
    -------
    hashes : ndarray of uint64, shape (n, 2)
        The ids under the run's hash.
    outputs : ndarray of uint8, shape (n, size)
    """
    parameters = Cm20Parameters.choose(len(ids), agreement.peer_size)
    ot = BaseOTSender(agreement.key(b"base ot"), parameters.width)
    await peer.send(Setup(parameters.log_rows, parameters.width, len(ids), ot.first()))
    hashes = hash_ids(agreement.key(b"ids"), ids)
    reply = (await peer.recv(Choices)).ot
    with from_peer(peer):
        seeds = ot.keys(reply)
    key = secrets.token_bytes(SEED_BYTES)
    await peer.send(PlaceKey(key))
    with Cm20Receiver(parameters, hashes, key, seeds) as receiver:
        for first, columns in receiver.corrections():
            await peer.send(Columns(first, columns))
            if on_progress is not None:
                on_progress("align: columns", first + len(columns), parameters.width)
        return hashes, receiver.outputs(agreement.key(b"outputs"), size)


async def oprf_send(
    peer: Peer,
    ids: list[bytes],
    agreement: Agreement,
    extra: int = 0,
    on_progress: Progress | None = None,
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Key the function and compute it on the provider's ids (the provider's side).

    Parameters
    ----------
    peer : Peer
        The platform.
    ids : list of bytes
        One or more distinct ids.
    agreement : Agreement
    extra : int, default 0
        Bytes per output beyond those that make tags unique.
    on_progress : callable, optional

    Returns
    -------
    hashes : ndarray of uint64, shape (n, 2)
        The ids under the run's hash.
    outputs : ndarray of uint8, shape (n, size)
    """
    setup = await peer.recv(Setup)
    if not 1 <= setup.rows <= agreement.peer_size:
        raise PeerProtocolError(f"{peer.name} brings another number of ids.", step=STEP)
    with from_peer(peer):
        parameters = Cm20Parameters(setup.log_rows, setup.width)
        parameters.check(setup.rows, len(ids))
        choices = np.frombuffer(secrets.token_bytes(parameters.width), np.uint8) & np.uint8(1)
        ot = BaseOTReceiver(agreement.key(b"base ot"), choices)
        reply = ot.reply(setup.ot)
    await peer.send(Choices(reply))
    hashes = hash_ids(agreement.key(b"ids"), ids)
    key = (await peer.recv(PlaceKey)).key
    if len(key) != SEED_BYTES:
        raise PeerProtocolError(f"the position key of {peer.name} is malformed.", step=STEP)
    with Cm20Sender(parameters, hashes, key, choices, ot.keys) as sender:
        for _ in parameters.groups():
            message = await peer.recv(Columns)
            with from_peer(peer):
                sender.absorb(message.first, message.columns)
            if on_progress is not None:
                done = message.first + len(message.columns)
                on_progress("align: columns", done, parameters.width)
        size = tag_bytes(setup.rows, len(ids)) + extra
        return hashes, sender.outputs(agreement.key(b"outputs"), size)


async def find_rows(
    peer: Peer, ids: list[bytes], agreement: Agreement, on_progress: Progress | None = None
) -> NDArray[np.int64]:
    """Find the platform's ids in the provider's permuted list (the platform's side).

    Parameters
    ----------
    peer : Peer
        The provider.
    ids : list of bytes
        One or more distinct ids.
    agreement : Agreement
    on_progress : callable, optional

    Returns
    -------
    ndarray of int64, shape (n,)
        Place of every id in the provider's list, or −1.
    """
    size = tag_bytes(len(ids), agreement.peer_size)
    _, own = await oprf_receive(peer, ids, agreement, size, on_progress)
    tags = np.empty((agreement.peer_size, size), np.uint8)
    await collect(peer, Tags, "tags", tags)
    with from_peer(peer):
        return join_tags(own, tags)


async def serve_rows(
    peer: Peer, ids: list[bytes], agreement: Agreement, on_progress: Progress | None = None
) -> NDArray[np.int64]:
    """Let the platform find its ids in a permuted list (the provider's side).

    Returns
    -------
    ndarray of int64, shape (n,)
        The own row at every place of the list.
    """
    _, tags = await oprf_send(peer, ids, agreement, on_progress=on_progress)
    order = secure_permutation(len(ids))
    for first, part in pieces(tags[order]):
        await peer.send(Tags(first, part))
    return order


async def platform_role(
    peers: Peers,
    ids: Sequence[bytes] | NDArray[np.bytes_],
    *,
    floor: int,
    session: bytes,
    on_progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Align the platform with one provider.

    Parameters
    ----------
    peers : Peers
        Exactly the provider.
    ids : sequence of bytes
        Distinct normalised ids.
    floor : int
        Least number of common ids, 1 or more; the provider's counts if it is higher.
    session : bytes
        The session's name, 16 bytes or more, the same at both parties.
    on_progress : callable, optional
        Called with (step, done, total).

    Returns
    -------
    ndarray of int64, shape (number of common ids,)
        Rows of ``ids`` in the common order.

    Raises
    ------
    InputError
        If the ids are not distinct nonempty bytes, or there is not exactly one provider.
    PolicyError
        If there are fewer common ids than the floor.
    PeerProtocolError
        If the provider breaks the protocol.
    """
    items = checked_ids(ids)
    if len(peers) != 1:
        raise InputError(
            "this form of alignment needs exactly one provider.",
            step=STEP,
            fix="use align_many.align_platform",
        )
    (peer,) = peers.values()
    agreements = await agree_platform(
        peers, len(items), strategy=STRATEGY, floor=floor, session=session
    )
    agreement = agreements[peer.name]
    places = await find_rows(peer, items, agreement, on_progress)
    found = np.flatnonzero(places >= 0)
    require_floor(len(found), agreement.floor)
    found = shuffled(found)
    await announce_rows(peer, places[found])
    return found


async def provider_role(
    peers: Peers,
    platform: str,
    ids: Sequence[bytes] | NDArray[np.bytes_],
    *,
    floor: int,
    session: bytes,
    on_progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Align one provider with the platform; see `platform_role`.

    Returns
    -------
    ndarray of int64, shape (number of common ids,)
        Rows of the provider's ``ids`` in the common order.
    """
    items = checked_ids(ids)
    peer = peers[platform]
    agreement = await agree_provider(
        peer, len(items), strategy=STRATEGY, floor=floor, session=session
    )
    order = await serve_rows(peer, items, agreement, on_progress)
    return await learn_rows(peer, order, agreement.floor)
