"""Microsoft SEAL (through ``tenseal.sealapi``) for BFV with a plain modulus ``2^k``.

SEAL does everything that touches a secret key: key generation, symmetric encryption, decryption.
This module gives the rest of the package numpy arrays of residues in and out of SEAL's objects.

SEAL's Python binding moves data by ``save`` and ``load`` on paths only, always compressed, about a
millisecond each.  :func:`_views_work` therefore checks once per process whether the residues can
be reached in place; where anything differs from what is expected (another interpreter, another
build of the binding) every access goes through SEAL's own serialisation instead.  Both ways are
tested to give the same numbers.
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
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import tenseal.sealapi as sealapi
from numpy.typing import NDArray

from fedcredit.errors import CiphertextError, KeyMaterialError, ParameterError

__all__ = ["SEED_BYTES", "SealContext", "SealKeys"]

SEED_BYTES = 64
"""Bytes of the seed of SEAL's default generator (Blake2xb)."""

STANDARD_BITS = {4096: 109, 8192: 218}
"""Largest coefficient modulus, in bits, for 128-bit security with ternary keys.

Homomorphic Encryption Standard (Albrecht et al., 2018), table 1; SEAL enforces the same limits.
"""

U64 = NDArray[np.uint64]

_HEADER = struct.Struct("<HBBBBHQ")  # magic, header size, major, minor, compression, 0, total size
_MAGIC = 0xA15E
_CIPHERTEXT_META = 73  # parms_id 32, is_ntt 1, size 8, N 8, L 8, scale 8, correction factor 8
_ARRAY_META = _HEADER.size + 8  # header and count of a serialised array
_SEED_MARK = 0xFFFFFFFFFFFFFFFF
_BLAKE2XB = 1


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


def _save(obj: Any) -> bytes:
    with _private_path() as path:
        obj.save(path)
        return Path(path).read_bytes()


def _load(obj: Any, context: Any, data: bytes) -> Any:
    with _private_path() as path:
        Path(path).write_bytes(data)
        obj.load(context, path)
    return obj


def _wrap(payload: bytes) -> bytes:
    _, _, major, minor, *_ = _HEADER.unpack_from(_version_header())
    return _HEADER.pack(_MAGIC, _HEADER.size, major, minor, 0, 0, _HEADER.size + len(payload)) + (
        payload
    )


@cache
def _version_header() -> bytes:
    return _save(sealapi.Plaintext("1"))[: _HEADER.size]


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
def _views_work() -> bool:
    """Check once that residues read in place are those that SEAL itself serialises."""
    if sys.implementation.name != "cpython" or sys.byteorder != "little":
        return False
    if object.__basicsize__ != 16 or struct.calcsize("P") != 8:
        return False
    degree = 4096
    try:
        context = _build_context(degree, (31, 31, 31, 16), 1 << 20)
        encryptor = sealapi.Encryptor(context, sealapi.KeyGenerator(context).secret_key())
        plain = sealapi.Plaintext(degree)
        sealed = encryptor.encrypt_symmetric(plain)
        loaded = _load(sealapi.Ciphertext(), context, _save(sealed))
        # First every pointer through the operating system, which answers a wrong address with an error.
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
    payload = _unwrap(_save(obj))
    size, degree, primes = struct.unpack_from("<QQQ", payload, 33)
    start = _CIPHERTEXT_META + _ARRAY_META
    (count,) = struct.unpack_from("<Q", payload, start - 8)
    flat = np.frombuffer(payload, "<u8", count, start)
    if count == size * degree * primes:
        return flat.reshape(size, primes, degree), b""
    return flat.reshape(1, primes, degree), _check_seed(payload[start + 8 * count :], _SEED_MARK)


def _saved_coefficients(plain: Any) -> U64:
    payload = _unwrap(_save(plain))
    (count,) = struct.unpack_from("<Q", payload, 32)
    return np.frombuffer(payload, "<u8", count, 48 + _ARRAY_META)


def _residues(obj: Any) -> U64:
    """Give a copy of the residues of an unseeded ciphertext."""
    return _view_ciphertext(obj).copy() if _views_work() else _saved_residues(obj)[0]


# -------------------------------------------------------------------------- contexts and keys


def _build_context(degree: int, bits: Sequence[int], plain_modulus: int) -> Any:
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(degree)
    parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(degree, list(bits)))
    parameters.set_plain_modulus(plain_modulus)
    return sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)


class SealContext:
    """BFV parameters as SEAL validates them, and what needs no secret key.

    Use :meth:`of`, which builds every context once per process.

    Parameters
    ----------
    degree : int
        N: 4096 or 8192.
    bits : tuple of int
        Bit sizes of the coefficient primes; the last one is the special prime of key switching.
    plain_modulus : int
        t.

    Attributes
    ----------
    primes : tuple of int
        The coefficient primes, the special prime last.

    Raises
    ------
    ParameterError
        If SEAL's table for 128-bit security does not contain the parameters.
    """

    def __init__(self, degree: int, bits: tuple[int, ...], plain_modulus: int) -> None:
        if sum(bits) > STANDARD_BITS.get(degree, 0):
            raise ParameterError(
                f"a modulus of {sum(bits)} bits at degree {degree} is below 128-bit security.",
                fix="use fewer primes or degree 8192",
            )
        try:
            self._context = _build_context(degree, bits, plain_modulus)
        except (ValueError, RuntimeError) as error:
            raise ParameterError("SEAL refuses the parameters.") from error
        if not self._context.parameters_set():
            raise ParameterError(f"SEAL: {self._context.parameters_error_message()}")
        key_level = self._context.key_context_data().parms()
        self.degree = degree
        self.plain_modulus = plain_modulus
        self.primes: tuple[int, ...] = tuple(m.value() for m in key_level.coeff_modulus())

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, degree: int, bits: tuple[int, ...], plain_modulus: int) -> SealContext:
        """Build, or give again, the context of these parameters."""
        return cls(degree, bits, plain_modulus)

    def load_public_key(self, data: bytes) -> U64:
        """Read a public key that SEAL saved.

        Returns
        -------
        ndarray of uint64, shape (2, L + 1, N)
            Residues at SEAL's evaluation points.

        Raises
        ------
        KeyMaterialError
            If SEAL refuses the bytes.
        """
        key = self._load_key(sealapi.PublicKey(), data)
        return _residues(key.data())

    def load_galois_keys(self, data: bytes, elements: Sequence[int]) -> U64:
        """Read Galois keys that SEAL saved.

        Returns
        -------
        ndarray of uint64, shape (E, L, 2, L + 1, N)
            For every element the residues of its L key-switching keys.

        Raises
        ------
        KeyMaterialError
            If SEAL refuses the bytes or a key of ``elements`` is missing.
        """
        keys = self._load_key(sealapi.GaloisKeys(), data)
        out = []
        for element in elements:
            if not keys.has_key(element):
                raise KeyMaterialError("a Galois key that the packing needs is missing.")
            out.append([_residues(part.data()) for part in keys.data((element - 1) // 2)])
        if any(len(parts) != len(self.primes) - 1 for parts in out):
            raise KeyMaterialError("a Galois key has the wrong number of parts.")
        return np.array(out, np.uint64).reshape(
            len(out), len(self.primes) - 1, 2, len(self.primes), self.degree
        )

    def expand(self, seed: bytes, c0: U64) -> U64:
        """Let SEAL expand a seeded ciphertext: the reference for the package's own expansion.

        Parameters
        ----------
        seed : bytes
            64 bytes.
        c0 : ndarray of uint64, shape (L, N)
            First polynomial.

        Returns
        -------
        ndarray of uint64, shape (2, L, N)
            Both polynomials.

        Raises
        ------
        CiphertextError
            If SEAL refuses the residues.
        """
        meta = struct.pack("<4Q?3Qd", *self._context.first_parms_id(), False, 2, *c0.shape[::-1], 1.0)
        values = np.ascontiguousarray(c0, "<u8")
        array = _wrap(struct.pack("<Q", values.size) + values.tobytes())
        info = _wrap(bytes([_BLAKE2XB]) + seed)
        payload = meta + struct.pack("<Q", 1) + array + info
        try:
            return _residues(_load(sealapi.Ciphertext(), self._context, _wrap(payload)))
        except (ValueError, RuntimeError) as error:
            raise CiphertextError("SEAL refuses the ciphertext.") from error

    def new_keys(self) -> SealKeys:
        """Make a fresh secret key."""
        return SealKeys(self)

    def _load_key(self, key: Any, data: bytes) -> Any:
        if len(data) > 1 << 26:
            raise KeyMaterialError("the key has more than 64 MB.")
        try:
            return _load(key, self._context, data)
        except (ValueError, RuntimeError) as error:
            raise KeyMaterialError(
                "SEAL cannot read the key.", fix="agree on one profile and send the key again"
            ) from error


class SealKeys:
    """A secret key inside SEAL and what can be done with it.

    The key never leaves SEAL's own memory: it is neither printed nor pickled nor saved.

    Parameters
    ----------
    context : SealContext
        The parameters.
    """

    def __init__(self, context: SealContext) -> None:
        self.context = context
        self._generator = sealapi.KeyGenerator(context._context)
        secret = self._generator.secret_key()
        self._encryptor = sealapi.Encryptor(context._context, secret)
        self._decryptor = sealapi.Decryptor(context._context, secret)
        self._plain = sealapi.Plaintext(context.degree)

    def __repr__(self) -> str:
        return f"<SealKeys degree={self.context.degree}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys cannot be pickled")

    def public_key(self) -> bytes:
        """Make a public key in SEAL's format."""
        key = sealapi.PublicKey()
        self._generator.create_public_key(key)
        return _save(key)

    def galois_keys(self, elements: Sequence[int]) -> bytes:
        """Make the Galois keys of ``X -> X^element``, seeded, in SEAL's format."""
        return _save(self._generator.create_galois_keys(list(elements)))

    def encrypt(self, coefficients: U64) -> tuple[bytes, U64]:
        """Encrypt one polynomial symmetrically.

        Parameters
        ----------
        coefficients : ndarray of uint64, shape (N,)
            Below t.

        Returns
        -------
        seed : bytes
            64 bytes; its expansion is c1.
        c0 : ndarray of uint64, shape (L, N)
            Residues of c0, coefficients.
        """
        if _views_work():
            _view_plaintext(self._plain)[:] = coefficients
            return _split_view(_view_ciphertext(self._encryptor.encrypt_symmetric(self._plain)))
        values = np.ascontiguousarray(coefficients, "<u8")
        array = _wrap(struct.pack("<Q", values.size) + values.tobytes())
        payload = bytes(32) + struct.pack("<Qd", values.size, 1.0) + array
        plain = _load(sealapi.Plaintext(), self.context._context, _wrap(payload))
        residues, seed = _saved_residues(self._encryptor.encrypt_symmetric(plain))
        return seed, residues[0]

    def decrypt(self, residues: U64) -> U64:
        """Decrypt one ciphertext.

        Parameters
        ----------
        residues : ndarray of uint64, shape (2, L, N)
            Both polynomials, coefficients, below the primes.

        Returns
        -------
        ndarray of uint64, shape (N,)
            Coefficients below t.
        """
        plain = sealapi.Plaintext()
        self._decryptor.decrypt(self._ciphertext(residues), plain)
        values = _view_plaintext(plain) if _views_work() else _saved_coefficients(plain)
        out = np.zeros(self.context.degree, np.uint64)
        out[: values.size] = values
        return out

    def noise_budget(self, residues: U64) -> int:
        """Give SEAL's invariant noise budget of a ciphertext, in bits."""
        return int(self._decryptor.invariant_noise_budget(self._ciphertext(residues)))

    def _ciphertext(self, residues: U64) -> Any:
        raw = self.context._context
        ciphertext = sealapi.Ciphertext(raw, raw.first_parms_id(), 2)
        ciphertext.resize(raw, raw.first_parms_id(), 2)
        if _views_work():
            _view_ciphertext(ciphertext)[:] = residues
            return ciphertext
        payload = _unwrap(_save(ciphertext))
        values = np.ascontiguousarray(residues, "<u8").tobytes()
        return _load(ciphertext, raw, _wrap(payload[: -len(values)] + values))
