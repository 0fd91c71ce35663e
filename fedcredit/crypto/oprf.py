"""The oblivious pseudorandom function of RFC 9497, ristretto255-SHA512, mode OPRF (base mode).

::

    client: B = r·HashToGroup(input)        ── B ──►   server: E = k·B
    client: output = Hash(input, r⁻¹·E)     ◄── E ──

The client learns the output on its input and nothing else of the key; the server sees uniform
group elements. Whoever holds the key computes the outputs of its own inputs alone (``evaluate``).

All per-item work is libsodium's, which releases the interpreter lock; the ``_many`` functions
spread it over threads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto import group
from fedcredit.errors import CiphertextError, InputError, KeyMaterialError

__all__ = [
    "OUTPUT_BYTES",
    "OprfKey",
    "blind",
    "blind_many",
    "finalize",
    "finalize_many",
]

OUTPUT_BYTES: Final = 64

_CONTEXT: Final = b"OPRFV1-\x00-ristretto255-SHA512"
_GROUP_DST: Final = b"HashToGroup-" + _CONTEXT
_KEY_DST: Final = b"DeriveKeyPair" + _CONTEXT
_MAX_INPUT: Final = (1 << 16) - 1
_CHUNK: Final = 512

T = TypeVar("T")


def _prefixed(data: bytes) -> bytes:
    if len(data) > _MAX_INPUT:
        raise InputError("an OPRF input is longer than 65535 bytes.")
    return len(data).to_bytes(2, "big") + data


def _output(item: bytes, element: bytes) -> bytes:
    return hashlib.sha512(_prefixed(item) + _prefixed(element) + b"Finalize").digest()


def blind(item: bytes, scalar: bytes | None = None) -> tuple[bytes, bytes]:
    """Blind an input (``Blind``).

    Parameters
    ----------
    item : bytes
        The input, up to 65535 bytes.
    scalar : bytes, optional
        The blinding scalar, for known-answer tests only. Default: fresh.

    Returns
    -------
    scalar : bytes
        The blind; secret, used once.
    element : bytes
        32 bytes for the server, uniform.
    """
    _prefixed(item)
    scalar = group.random_scalar() if scalar is None else scalar
    return scalar, group.mult(scalar, group.hash_to_group(item, _GROUP_DST))


def finalize(item: bytes, scalar: bytes, evaluated: bytes) -> bytes:
    """Unblind the server's answer and hash it with the input (``Finalize``).

    Parameters
    ----------
    item : bytes
        The input.
    scalar : bytes
        Its blind.
    evaluated : bytes
        The server's 32 bytes.

    Returns
    -------
    bytes
        The output, 64 bytes.

    Raises
    ------
    CiphertextError
        If the answer is no valid element.
    """
    return _output(item, group.mult(group.scalar_invert(scalar), evaluated))


class OprfKey:
    """The server's key. It shows neither in ``repr`` nor in a pickle.

    Parameters
    ----------
    scalar : bytes
        32 bytes, little endian, between 1 and the group order.

    Raises
    ------
    KeyMaterialError
        If the scalar is out of range.
    """

    __slots__ = ("_scalar",)

    def __init__(self, scalar: bytes) -> None:
        group.base_mult(scalar)  # refuses what is out of range
        self._scalar = bytes(scalar)

    @classmethod
    def generate(cls) -> OprfKey:
        """Draw a fresh key."""
        return cls(group.random_scalar())

    @classmethod
    def derive(cls, seed: bytes, info: bytes) -> OprfKey:
        """Derive a key from a 32-byte secret seed (``DeriveKeyPair``).

        Raises
        ------
        KeyMaterialError
            If the seed has another length.
        """
        if len(seed) != 32:
            raise KeyMaterialError("an OPRF seed must have 32 bytes.")
        material = seed + _prefixed(info)
        for counter in range(256):
            scalar = group.hash_to_scalar(material + bytes([counter]), _KEY_DST)
            if any(scalar):
                return cls(scalar)
        raise KeyMaterialError("no key can be derived from this seed.")

    def private_bytes(self) -> bytes:
        """Return the secret scalar, for storage."""
        return self._scalar

    def __repr__(self) -> str:
        return "OprfKey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an OPRF key is secret and is never pickled")

    def blind_evaluate(self, element: bytes) -> bytes:
        """Answer a client's blinded element (``BlindEvaluate``).

        Raises
        ------
        CiphertextError
            If the element is malformed or the identity.
        """
        return group.mult(self._scalar, element)

    def evaluate(self, item: bytes) -> bytes:
        """Compute the output on an own input (``Evaluate``), 64 bytes."""
        return _output(item, group.mult(self._scalar, group.hash_to_group(item, _GROUP_DST)))

    def blind_evaluate_many(
        self, elements: NDArray[np.uint8], *, threads: int | None = None
    ) -> NDArray[np.uint8]:
        """Answer many blinded elements.

        Parameters
        ----------
        elements : ndarray of uint8, shape (n, 32)
        threads : int, optional
            Default up to 4.

        Returns
        -------
        ndarray of uint8, shape (n, 32)

        Raises
        ------
        CiphertextError
            If the shape does not fit or an element is malformed or the identity.
        """
        return _rows(_spread(self.blind_evaluate, _split(elements), threads), group.POINT_BYTES)

    def evaluate_many(
        self,
        items: Sequence[bytes],
        *,
        size: int = OUTPUT_BYTES,
        threads: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Compute the outputs of many own inputs, about 66 µs each.

        Parameters
        ----------
        items : sequence of bytes
        size : int, default 64
            How many leading bytes of each output to keep.
        threads : int, optional
            Default up to 4.
        on_progress : callable, optional
            Called with (done, total) now and then.

        Returns
        -------
        ndarray of uint8, shape (n, size)
        """
        return _rows(
            _spread(lambda item: self.evaluate(item)[:size], items, threads, on_progress), size
        )


def _split(elements: NDArray[np.uint8]) -> list[bytes]:
    """Return the rows of a matrix of encoded elements as bytes.

    Raises
    ------
    CiphertextError
        If the matrix does not have 32 columns of uint8.
    """
    if elements.dtype != np.uint8 or elements.ndim != 2 or elements.shape[1] != group.POINT_BYTES:
        raise CiphertextError("group elements must come as a uint8 array of shape (n, 32).")
    raw = elements.tobytes()
    return [raw[at : at + group.POINT_BYTES] for at in range(0, len(raw), group.POINT_BYTES)]


def blind_many(
    items: Sequence[bytes], *, threads: int | None = None
) -> tuple[list[bytes], NDArray[np.uint8]]:
    """Blind many inputs.

    Parameters
    ----------
    items : sequence of bytes
    threads : int, optional
        Default up to 4.

    Returns
    -------
    scalars : list of bytes
        The secret blinds.
    elements : ndarray of uint8, shape (n, 32)
        What the server gets.
    """
    pairs = _spread(blind, items, threads)
    return [pair[0] for pair in pairs], _rows([pair[1] for pair in pairs], group.POINT_BYTES)


def finalize_many(
    items: Sequence[bytes],
    scalars: Sequence[bytes],
    evaluated: NDArray[np.uint8],
    *,
    size: int = OUTPUT_BYTES,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Unblind and hash many answers.

    Parameters
    ----------
    items, scalars : sequence of bytes
        The inputs and their blinds.
    evaluated : ndarray of uint8, shape (n, 32)
        The server's answers in the same order.
    size : int, default 64
        How many leading bytes of each output to keep.
    threads : int, optional
        Default up to 4.

    Returns
    -------
    ndarray of uint8, shape (n, size)

    Raises
    ------
    CiphertextError
        If the number of answers is another, or one is malformed or the identity.
    """
    answers = _split(evaluated)
    if not len(items) == len(scalars) == len(answers):
        raise CiphertextError("the OPRF server answered another number of elements.")
    rows = list(zip(items, scalars, answers, strict=True))
    return _rows(_spread(lambda row: finalize(*row)[:size], rows, threads), size)


def _rows(parts: Sequence[bytes], size: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), size)


U = TypeVar("U")


def _spread(
    work: Callable[[U], T],
    items: Sequence[U],
    threads: int | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[T]:
    """Apply ``work`` to every item, a chunk per task of a thread pool."""
    n = len(items)
    threads = threads or min(4, os.cpu_count() or 1)
    chunks = [items[at : at + _CHUNK] for at in range(0, n, _CHUNK)]
    out: list[T] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="oprf") as pool:
        for part in pool.map(lambda chunk: [work(item) for item in chunk], chunks):
            out += part
            if on_progress is not None:
                on_progress(len(out), n)
    return out
