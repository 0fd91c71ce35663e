"""Residues in and out of SEAL's objects.

SEAL's Python binding moves data by ``save`` and ``load`` on paths only, always compressed, about a
millisecond each.  :func:`views_work` therefore checks once per process whether the residues can be
reached in place; where anything differs from what is expected (another interpreter, another build
of the binding) every access goes through SEAL's own serialisation instead.  Both ways are tested to
give the same numbers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tenseal.sealapi as sealapi
from numpy.typing import NDArray

from fedcredit.errors import CiphertextError

__all__ = [
    "SEED_BYTES",
    "build_context",
    "load",
    "make_ciphertext",
    "make_plaintext",
    "read_ciphertext",
    "read_plaintext",
    "read_seeded",
    "save",
    "seeded_bytes",
    "views_work",
]

SEED_BYTES = 64
"""Bytes of the seed of SEAL's default generator (Blake2xb)."""

U64 = NDArray[np.uint64]

_HEADER = struct.Struct("<HBBBBHQ")  # magic, header size, major, minor, compression, 0, total size
_MAGIC = 0xA15E
_CIPHERTEXT_META = 73  # parms_id 32, is_ntt 1, size 8, N 8, L 8, scale 8, correction factor 8
_ARRAY_META = _HEADER.size + 8  # header and count of a serialised array
_SEED_MARK = 0xFFFFFFFFFFFFFFFF
_BLAKE2XB = 1


def build_context(degree: int, bits: Sequence[int], plain_modulus: int) -> Any:
    """Build SEAL's BFV context with its own primes of the given sizes, at 128-bit security."""
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(degree)
    parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(degree, list(bits)))
    parameters.set_plain_modulus(plain_modulus)
    return sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)


# --------------------------------------------------------------------- SEAL's own serialisation


@contextlib.contextmanager
def _private_path() -> Iterator[str]:
    """Give a path that only this process can open, held in memory, gone afterwards."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("seal", os.MFD_CLOEXEC)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        shared = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
            yield str(Path(folder) / "object")


def save(obj: Any) -> bytes:
    """Give the bytes that SEAL saves of an object."""
    with _private_path() as path:
        obj.save(path)
        return Path(path).read_bytes()


def load(obj: Any, context: Any, data: bytes) -> Any:
    """Load bytes into a SEAL object, which checks them against the context, and return it."""
    with _private_path() as path:
        Path(path).write_bytes(data)
        obj.load(context, path)
    return obj


def _wrap(payload: bytes) -> bytes:
    _, _, major, minor, *_ = _HEADER.unpack_from(_version_header())
    total = _HEADER.size + len(payload)
    return _HEADER.pack(_MAGIC, _HEADER.size, major, minor, 0, 0, total) + payload


@cache
def _version_header() -> bytes:
    return save(sealapi.Plaintext("1"))[: _HEADER.size]


def _unwrap(data: bytes) -> bytes:
    magic, _, _, _, compression, _, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise CiphertextError("the data are not SEAL's.")
    payload = data[_HEADER.size :]
    if compression == 2:
        return pa.CompressedInputStream(pa.py_buffer(payload), "zstd").read()
    return zlib.decompress(payload) if compression == 1 else payload


# ------------------------------------------------------------------------------ views in place


def _instance_pointer(obj: Any) -> int:
    """Give the address of the C++ object behind a pybind11 instance (simple layout)."""
    return ctypes.c_uint64.from_address(id(obj) + 16).value


def _view_ciphertext(obj: Any) -> U64:
    """Give the residues of a Ciphertext or SerializableCiphertext in place, (size, L, N).

    Words of the C++ object: parms_id 0-3, is_ntt 4, size 5, N 6, L 7, scale 8, correction 9,
    then the array: pool 10-11, capacity 12, size 13, pointer 14.
    """
    words = (ctypes.c_uint64 * 16).from_address(_instance_pointer(obj))
    size, degree, primes, count = words[5], words[6], words[7], words[13]
    if (
        not 1 <= size <= 3
        or count != size * primes * degree
        or words[12] < count
        or count > 1 << 24
    ):
        raise CiphertextError("a SEAL object has an unexpected layout.")
    flat = np.ctypeslib.as_array((ctypes.c_uint64 * count).from_address(words[14]))
    return flat.reshape(size, primes, degree)


def _view_plaintext(obj: Any) -> U64:
    """Give the coefficients of a Plaintext in place.

    Words of the C++ object: parms_id 0-3, count 4, scale 5, pool 6-7, capacity 8, size 9,
    pointer 10.
    """
    words = (ctypes.c_uint64 * 16).from_address(_instance_pointer(obj))
    count = words[9]
    if words[4] != count or words[8] < count or count > 1 << 20:
        raise CiphertextError("a SEAL object has an unexpected layout.")
    return np.ctypeslib.as_array((ctypes.c_uint64 * count).from_address(words[10]))


def _peek(address: int, words: int) -> tuple[int, ...]:
    """Read memory through the operating system: a wrong address is an error, not a crash."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        data = os.pread(memory.fileno(), 8 * words, address)
    return struct.unpack(f"<{words}Q", data)


@cache
def views_work() -> bool:
    """Check once that residues read in place are those that SEAL itself serialises."""
    if sys.implementation.name != "cpython" or sys.byteorder != "little":
        return False
    if object.__basicsize__ != 16 or struct.calcsize("P") != 8:
        return False
    degree = 4096
    try:
        context = build_context(degree, (31, 31, 31, 16), 1 << 20)
        encryptor = sealapi.Encryptor(context, sealapi.KeyGenerator(context).secret_key())
        plain = sealapi.Plaintext(degree)
        sealed = encryptor.encrypt_symmetric(plain)
        loaded = load(sealapi.Ciphertext(), context, save(sealed))
        # First every pointer through the operating system: a wrong address is an error there.
        for obj in (sealed, loaded):
            words = _peek(_peek(id(obj) + 16, 1)[0], 16)
            if words[:4] != tuple(loaded.parms_id()) or words[5:8] != (2, degree, 3):
                return False
            if words[13] != 2 * 3 * degree or not _peek(words[14], words[13]):
                return False
        words = _peek(_peek(id(plain) + 16, 1)[0], 11)
        if words[4] != degree or words[9] != degree or not _peek(words[10], degree):
            return False
        # Then the numbers.
        seed, c0 = _split_view(_view_ciphertext(sealed))
        saved, saved_seed = _saved_residues(sealed)
        _view_plaintext(plain)[:] = np.arange(degree, dtype=np.uint64)
        return (
            np.array_equal(_view_ciphertext(loaded), _saved_residues(loaded)[0])
            and seed == saved_seed
            and np.array_equal(c0, saved[0])
            and np.array_equal(_saved_coefficients(plain), np.arange(degree))
        )
    except (OSError, ValueError, struct.error, CiphertextError):
        return False


def _split_view(view: U64) -> tuple[bytes, U64]:
    """Split a seeded ciphertext, as SEAL keeps it, into the seed and c0."""
    tail = view[1].reshape(-1)[:12].tobytes()
    return _check_seed(tail[8:89], struct.unpack_from("<Q", tail)[0]), view[0].copy()


def _check_seed(info: bytes, mark: int) -> bytes:
    """Take the seed out of a serialised generator description."""
    magic, _, _, _, compression, _, total = _HEADER.unpack_from(info)
    kind = info[_HEADER.size]
    if (mark, magic, compression, total, kind) != (_SEED_MARK, _MAGIC, 0, 81, _BLAKE2XB):
        raise CiphertextError("SEAL describes the seed of a ciphertext in an unknown way.")
    return info[_HEADER.size + 1 : _HEADER.size + 1 + SEED_BYTES]


def _saved_residues(obj: Any) -> tuple[U64, bytes]:
    """Read a ciphertext through ``save``: residues (size or 1, L, N) and the seed, if any."""
    payload = _unwrap(save(obj))
    size, degree, primes = struct.unpack_from("<QQQ", payload, 33)
    start = _CIPHERTEXT_META + _ARRAY_META
    (count,) = struct.unpack_from("<Q", payload, start - 8)
    flat = np.frombuffer(payload, "<u8", count, start)
    if count == size * degree * primes:
        return flat.reshape(size, primes, degree), b""
    return flat.reshape(1, primes, degree), _check_seed(payload[start + 8 * count :], _SEED_MARK)


def _saved_coefficients(plain: Any) -> U64:
    payload = _unwrap(save(plain))
    (count,) = struct.unpack_from("<Q", payload, 32)
    return np.frombuffer(payload, "<u8", count, 48 + _ARRAY_META)


# ------------------------------------------------------------------------ whichever way works


def read_ciphertext(obj: Any) -> U64:
    """Give a copy of the residues of an unseeded ciphertext, (size, L, N)."""
    return _view_ciphertext(obj).copy() if views_work() else _saved_residues(obj)[0]


def read_seeded(obj: Any) -> tuple[bytes, U64]:
    """Give the seed and the residues of c0 (L, N) of a seeded ciphertext (SerializableCiphertext).

    Raises
    ------
    CiphertextError
        If SEAL used another generator than Blake2xb.
    """
    if views_work():
        return _split_view(_view_ciphertext(obj))
    residues, seed = _saved_residues(obj)
    return seed, residues[0]


def read_plaintext(plain: Any) -> U64:
    """Give a copy of the coefficients of a plaintext, trailing zeros left out."""
    return _view_plaintext(plain).copy() if views_work() else _saved_coefficients(plain)


def make_plaintext(context: Any, coefficients: U64) -> Any:
    """Make a plaintext of coefficients (N,)."""
    if views_work():
        plain = sealapi.Plaintext(coefficients.size)
        _view_plaintext(plain)[:] = coefficients
        return plain
    payload = bytes(32) + struct.pack("<Qd", coefficients.size, 1.0) + _array(coefficients)
    return load(sealapi.Plaintext(), context, _wrap(payload))


def make_ciphertext(context: Any, residues: U64) -> Any:
    """Make a ciphertext of coefficients (2, L, N) at the first level."""
    ciphertext = sealapi.Ciphertext(context, context.first_parms_id(), 2)
    ciphertext.resize(context, context.first_parms_id(), 2)
    if views_work():
        _view_ciphertext(ciphertext)[:] = residues
        return ciphertext
    payload = _unwrap(save(ciphertext))
    values = np.ascontiguousarray(residues, "<u8").tobytes()
    return load(ciphertext, context, _wrap(payload[: -len(values)] + values))


def seeded_bytes(context: Any, seed: bytes, c0: U64) -> bytes:
    """Write a seeded ciphertext as SEAL would save it."""
    shape = (2, c0.shape[1], c0.shape[0])
    meta = struct.pack("<4Q?3QdQ", *context.first_parms_id(), False, *shape, 1.0, 1)
    return _wrap(meta + _array(c0) + _wrap(bytes([_BLAKE2XB]) + seed))


def _array(values: U64) -> bytes:
    flat = np.ascontiguousarray(values, "<u8")
    return _wrap(struct.pack("<Q", flat.size) + flat.tobytes())
