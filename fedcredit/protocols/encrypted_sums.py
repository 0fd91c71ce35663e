"""Sums over a label holder's encrypted numbers, taken by a data provider per bin of its columns.

With a dense profile the provider takes inner products of its columns instead, one per column, and
may add a mask that it alone knows. The roles may be exchanged then: whoever holds the key is the
label holder of what follows, whoever holds the weights the provider.

::

    label holder                                      provider
      SumKeys{profile, public key, Galois keys} ----->            once per job
      SumChunk{16 blocks of ciphertexts} ... ... ----->           one pass: all rows, V vectors
                                                <-----  SumReply{sums, re-randomised, flooded}

What each role learns:

=============  ===========================================================================
role           learns
=============  ===========================================================================
label holder   for every vector and bin: the sum of its numbers over the rows of that bin; for
               every dense column: its inner product, or under a mask a uniform number;
               nothing else about the rows of a bin (every answer is freshly re-randomised
               and flooded; the statistical distance is `SumProfile.statistical_distance`)
provider       how many rows and vectors a pass has; nothing about the numbers
=============  ===========================================================================

A label holder that encrypts powers of two instead of gradients reads memberships from the sums;
against it the provider merges small bins, caps vectors and passes per job, and refuses a plaintext
modulus beyond :data:`MAX_PLAIN_BITS`. One that asks for answers with less noise than
:data:`MAX_DISTANCE` allows would read the bins of rows off the noise; it is refused as well.

The scheme is BFV or, as a slow reference without any noise, Paillier
(:mod:`fedcredit.crypto.paillier_sums`); the label holder's profile decides.

Sources: Huang et al., "Cheetah", USENIX Security 2022 (coefficient encoding); Lu et al.,
"Squirrel", USENIX Security 2023 (histograms); Chen et al., "Efficient Homomorphic Conversion
Between (Ring) LWE Ciphertexts", ACNS 2021 (ring packing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_dense import DenseAccumulator, unmasked
from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers, SumPublicKeys
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.errors import InputError, KeyMaterialError, PeerProtocolError
from fedcredit.protocols.blame import blamed_on
from fedcredit.protocols.sum_schemes import (
    AnyPlan,
    AnyProfile,
    AnyPublicKeys,
    read_profile,
    scheme_of,
)
from fedcredit.wire import Message, Peer, Peers, U8x2

__all__ = [
    "MAX_DENSE_PLAIN_BITS",
    "MAX_DISTANCE",
    "MAX_PLAIN_BITS",
    "SumClient",
    "SumServer",
    "unmasked",
]

#: Plain moduli that a provider accepts, in bits: what a label holder can pack into one number.
MAX_PLAIN_BITS = 42
#: The same for dense weights. Their sums need more bits, for a weight times a value is as large as
#: a sum of thousands of bin members, and the answers leave masked or as one number per column:
#: what could be packed into the additional bits is one weight per answer, while a dishonest label
#: holder reads that much by encrypting a single 1. The limit on passes is the guard against both.
MAX_DENSE_PLAIN_BITS = 52
#: Statistical distance of one returned sum that a provider accepts, as log2; every preset of
#: :class:`SumProfile` is below it for any number of rows.
MAX_DISTANCE = -38.0

_STEP = "encrypted sums"
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class SumKeys(
    Message,
    kind="sums.keys",
    version=1,
    max_bytes=64 << 20,
    reveals="public keys and parameters",
):
    """Label holder to provider: profile fields by name, public key and Galois keys (SEAL).

    Under Paillier the public key is the modulus with its proof, and there are no Galois keys.
    """

    fields: tuple[str, ...]
    values: tuple[int, ...]
    public_key: bytes
    galois_keys: bytes


@dataclass(frozen=True, eq=False, repr=False)
class SumChunk(
    Message,
    kind="sums.chunk",
    version=1,
    max_bytes=512 << 20,
    reveals="the number of rows and vectors; the numbers are encrypted",
):
    """Label holder to provider: ciphertexts of some blocks of rows and all vectors.

    Sixteen blocks or the rest of them under BFV, one under Paillier, which has no ``seeds``.
    """

    first_block: int
    n_blocks: int
    n_vectors: int
    seeds: U8x2
    c0: U8x2


@dataclass(frozen=True, eq=False, repr=False)
class SumReply(
    Message,
    kind="sums.reply",
    version=1,
    max_bytes=512 << 20,
    reveals="per vector and bin the sum over the bin's rows",
):
    """Provider to label holder: re-randomised, flooded sums of one pass; no ``c1`` in Paillier."""

    n_vectors: int
    total_bins: int
    c0: U8x2
    c1: U8x2


class SumClient:
    """The label holder's side; one key pair per job, for all providers alike.

    Parameters
    ----------
    profile : SumProfile or PaillierProfile
    """

    def __init__(self, profile: AnyProfile) -> None:
        self.profile = profile
        self._holder = scheme_of(profile).key_holder(profile)

    async def open(self, peers: Peers) -> None:
        """Send the public keys."""
        keys = self._holder.public_keys()
        fields = keys.profile.to_dict()
        await peers.broadcast(
            SumKeys(tuple(fields), tuple(fields.values()), keys.public_key, keys.galois_keys)
        )

    async def request(self, peers: Peers, values: IntArray) -> None:
        """Encrypt ``values`` (V, n) and send them; providers work on what has arrived."""
        for chunk in self._holder.encrypt(values):
            await peers.broadcast(
                SumChunk(chunk.first_block, chunk.n_blocks, chunk.n_vectors, chunk.seeds, chunk.c0)
            )

    async def collect(self, peer: Peer, n_vectors: int, bins: Sequence[int]) -> IntArray:
        """Receive and decrypt one pass's sums, shape (V, sum of ``bins``)."""
        reply = await peer.recv(SumReply)
        answers = SumAnswers(reply.n_vectors, reply.total_bins, reply.c0, reply.c1)
        with blamed_on(peer, _STEP):
            return self._holder.decrypt(answers, n_vectors, bins)

    async def collect_dense(self, peer: Peer, n_columns: int) -> IntArray:
        """Receive and decrypt one pass's inner products, shape (n_columns,).

        They are centred modulo ``2^plain_bits`` of the profile; uniform if the provider masks them.
        """
        if not isinstance(self.profile, SumProfile) or not self.profile.is_dense:
            raise InputError("the profile is for bins.", step=_STEP, fix="use SumProfile.dense")
        return (await self.collect(peer, 1, [1] * n_columns))[0]


class SumServer:
    """The provider's side.

    Parameters
    ----------
    keys : SumPublicKeys or PaillierPublicKeys
        Of the label holder.
    threads : int
    """

    def __init__(self, keys: AnyPublicKeys, *, threads: int = 1) -> None:
        self.profile: AnyProfile = keys.profile
        self._scheme = scheme_of(self.profile)
        self._keys = keys
        self._threads = threads

    @classmethod
    async def open(cls, peer: Peer, *, n_rows: int, threads: int = 1) -> SumServer:
        """Receive the public keys.

        Raises
        ------
        PeerProtocolError
            The profile is malformed, for another number of rows, holds larger numbers than
            :data:`MAX_PLAIN_BITS` or hides less than :data:`MAX_DISTANCE`.
        ParameterError
            The profile is outside the standard table.
        """
        message = await peer.recv(SumKeys)
        if len(message.fields) != len(message.values):
            raise PeerProtocolError("the profile is malformed.", party=peer.name, step=_STEP)
        with blamed_on(peer, _STEP):
            profile = read_profile(dict(zip(message.fields, message.values, strict=True)))
        if profile.max_rows != n_rows:
            raise PeerProtocolError(
                "the profile is for another number of rows.", party=peer.name, step=_STEP
            )
        dense = isinstance(profile, SumProfile) and profile.is_dense
        most = MAX_DENSE_PLAIN_BITS if dense else MAX_PLAIN_BITS
        if profile.plain_bits > most or profile.statistical_distance() > MAX_DISTANCE:
            raise PeerProtocolError(
                "the profile carries larger numbers or hides sums less than is allowed here.",
                party=peer.name,
                step=_STEP,
                fix="use one of the presets",
            )
        with blamed_on(peer, _STEP):
            make = scheme_of(profile).public_keys
            return cls(make(profile, message.public_key, message.galois_keys), threads=threads)

    def plan(
        self,
        bins: npt.NDArray[np.unsignedinteger],
        n_bins: npt.NDArray[np.int64],
        *,
        cache_bytes: int = 0,
    ) -> AnyPlan:
        """Prepare columns (F, n) in the order of a pass."""
        plan = self._scheme.plan(bins, n_bins, self.profile, self._threads)
        if cache_bytes:
            plan.cache_masks(cache_bytes)
        return plan

    async def serve(self, peer: Peer, plan: AnyPlan, n_vectors: int, n_rows: int) -> None:
        """Receive one pass over ``n_rows`` rows, sum, and answer."""
        with blamed_on(peer, _STEP):
            accumulator = self._scheme.accumulator(
                self.profile, self._keys, plan, n_vectors, self._threads
            )
        await self._receive(peer, accumulator.add, n_vectors, n_rows)
        answers = accumulator.finish()
        await peer.send(SumReply(answers.n_vectors, answers.total_bins, answers.c0, answers.c1))

    async def serve_dense(
        self, peer: Peer, columns: FloatArray, tables: FloatArray, *, masked: bool = False
    ) -> IntArray | None:
        """Receive one pass, take inner products with dense weights, and answer.

        Parameters
        ----------
        peer : Peer
            The key holder.
        columns : ndarray of float64, shape (F, n)
            Columns in the row order of the pass.
        tables : ndarray of float64, shape (V, n)
            Factors; weights are ``rint(columns[f] * tables[v])``.
        masked : bool, default False
            Add a fresh uniform mask to every inner product.

        Returns
        -------
        ndarray of int64, shape (F,), or None
            The masks (see :func:`unmasked`); None if ``masked`` is false.

        Raises
        ------
        InputError
            If the profile is for bins, shapes or types do not fit, or a weight is not a number or
            has more bits than the profile says.
        PeerProtocolError
            If a chunk is out of turn.
        CiphertextError
            If a ciphertext is malformed.
        """
        if not isinstance(self._keys, SumPublicKeys):
            raise InputError("dense weights need a profile of BFV.", step=_STEP)
        try:
            accumulator = DenseAccumulator(
                self._keys.profile,
                self._keys,
                columns,
                tables,
                masked=masked,
                threads=self._threads,
            )
        except KeyMaterialError as error:
            raise error.at(party=peer.name, step=_STEP) from None
        except InputError as error:
            raise error.at(step=_STEP) from None
        await self._receive(peer, accumulator.add, *tables.shape)
        answers, masks = accumulator.finish()
        await peer.send(SumReply(answers.n_vectors, answers.total_bins, answers.c0, answers.c1))
        return masks

    async def _receive(
        self,
        peer: Peer,
        add: Callable[[CiphertextChunk], None],
        n_vectors: int,
        n_rows: int,
    ) -> None:
        """Receive the chunks of one pass."""
        done, blocks = 0, self.profile.blocks(n_rows)
        while done < blocks:
            chunk = await peer.recv(SumChunk)
            if chunk.first_block != done or chunk.n_vectors != n_vectors:
                raise PeerProtocolError(
                    "a chunk of ciphertexts is out of turn.", party=peer.name, step=_STEP
                )
            done += chunk.n_blocks
            with blamed_on(peer, _STEP):
                add(
                    CiphertextChunk(
                        chunk.first_block, chunk.n_blocks, chunk.n_vectors, chunk.seeds, chunk.c0
                    )
                )
