"""Non-interactive proofs about lifted ElGamal ciphertexts and Pedersen commitments.

Two statements, both over ristretto255 with generators ``G`` and ``H`` of
:mod:`fedcredit.crypto.pedersen`:

*Equal values.* The ciphertext ``(A, B)`` under ``Y`` holds the value that ``C`` commits to, and
the prover knows it and the opening: ``A = r·G``, ``B = v·G + r·Y``, ``C = v·G + b·H``::

    T1 = k_r·G     T2 = k_v·G + k_r·Y     T3 = k_v·G + k_b·H
    c = hash(everything above, context)   z_w = k_w + c·w for w = v, r, b
    proof: c, z_v, z_r, z_b               checked by computing T1, T2, T3 back

*Decryption.* For ciphertexts ``(A_j, B_j)`` the points ``S_j = y·A_j`` use the ``y`` of
``Y = y·G``; a ciphertext holds zero exactly if ``S_j = B_j``. One equality proof serves all of
them, on ``M = Σ d_j·A_j`` and ``Z = Σ d_j·S_j``, where the weights ``d_j`` are a hash of the whole
statement: batched as in RFC 9497, section 2.2, whose weights take in less.

Sources: C. P. Schnorr, "Efficient signature generation by smart cards", J. Cryptology 4 (1991);
D. Chaum and T. P. Pedersen, "Wallet databases with observers", CRYPTO '92 (equality of
logarithms); J. Camenisch and M. Stadler, "Proof systems for general statements about discrete
logarithms", ETH Zürich TR 260 (1997). Challenges hash the full statement, not only the
commitments ``T``: D. Bernhard, O. Pereira and B. Warinschi, "How not to prove yourself",
ASIACRYPT 2012, show what goes wrong otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from fedcredit.crypto import group
from fedcredit.crypto.elgamal import MAX_TOLERANCE, Ciphertext, DecryptionKey
from fedcredit.crypto.pedersen import MIN_VALUE, commit, pedersen_g, pedersen_h
from fedcredit.errors import CiphertextError, CryptoError, InputError

__all__ = [
    "EQUAL_PROOF_BYTES",
    "decryption_proof_bytes",
    "prove_decryption",
    "prove_equal",
    "verify_decryption",
    "verify_equal",
]

EQUAL_PROOF_BYTES: Final = 4 * group.SCALAR_BYTES
MAX_CIPHERTEXTS: Final = 2 * MAX_TOLERANCE + 1

_EQUAL_DST: Final = b"fedcredit-sigma-v1-equal-value-ristretto255_XMD:SHA-512"
_DECRYPT_DST: Final = b"fedcredit-sigma-v1-decryption-ristretto255_XMD:SHA-512"
_WEIGHT_DST: Final = b"fedcredit-sigma-v1-weight-ristretto255_XMD:SHA-512"
_SCALAR: Final = group.SCALAR_BYTES
_POINT: Final = group.POINT_BYTES
_STEP: Final = "proof"
# A value is moved by this much where zero would not be a scalar, and moved back afterwards.
_SHIFT: Final = 1 - MIN_VALUE
_SHIFT_SCALAR: Final = _SHIFT.to_bytes(_SCALAR, "little")
_SHIFT_BACK: Final = (group.ORDER - _SHIFT).to_bytes(_SCALAR, "little")


def _packed(*parts: bytes) -> bytes:
    """Join with lengths, so that no two lists read alike."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _response(nonce: bytes, challenge: bytes, witness: bytes) -> bytes:
    """Return ``k + c·w``."""
    return group.scalar_add(nonce, group.scalar_mult(challenge, witness))


def _unanswered(z: bytes, base: bytes, challenge: bytes, image: bytes) -> bytes:
    """Return ``z·base − c·image``: the commitment that the response fits."""
    return group.sub(group.mult(z, base), group.mult(challenge, image))


# ------------------------------------------------------------------------------- equal values


def _equal_challenge(
    public: bytes,
    ciphertext: Ciphertext,
    commitment: bytes,
    context: bytes,
    commitments: tuple[bytes, bytes, bytes],
) -> bytes:
    statement = (pedersen_g(), pedersen_h(), public, ciphertext.first, ciphertext.second)
    return group.hash_to_scalar(_packed(*statement, commitment, context, *commitments), _EQUAL_DST)


def prove_equal(
    public: bytes,
    ciphertext: Ciphertext,
    randomness: bytes,
    commitment: bytes,
    value: int,
    blinding: bytes,
    context: bytes,
) -> bytes:
    """Prove that a ciphertext holds what a commitment commits to.

    Parameters
    ----------
    public : bytes
        The key ``Y`` of the ciphertext.
    ciphertext : Ciphertext
    randomness : bytes
        ``r`` of the ciphertext, as :func:`fedcredit.crypto.elgamal.encrypt` returned it.
    commitment : bytes
    value : int
    blinding : bytes
        The opening of the commitment.
    context : bytes
        What the proof is for; it verifies with these bytes only.

    Returns
    -------
    bytes
        128 bytes. They tell nothing about the value, the randomness and the blinding.

    Raises
    ------
    InputError
        If the value and the blinding do not open the commitment, or the value and the randomness
        do not make the ciphertext.
    KeyMaterialError, CiphertextError
        If an argument is malformed.
    """
    if not hmac.compare_digest(commit(value, blinding), bytes(commitment)):
        raise InputError(
            "the value and the blinding do not open the commitment.",
            step=_STEP,
            fix="use the opening that was kept with this commitment",
        )
    moved = (value + _SHIFT).to_bytes(_SCALAR, "little")
    lifted = group.add(ciphertext.second, group.base_mult(_SHIFT_SCALAR))
    if (
        group.base_mult(randomness) != ciphertext.first
        or group.add(group.base_mult(moved), group.mult(randomness, public)) != lifted
    ):
        raise InputError("the ciphertext does not hold the value.", step=_STEP)
    k_v, k_r, k_b = (group.random_scalar() for _ in range(3))
    value_part = group.base_mult(k_v)
    commitments = (
        group.base_mult(k_r),
        group.add(value_part, group.mult(k_r, public)),
        group.add(value_part, group.mult(k_b, pedersen_h())),
    )
    c = _equal_challenge(public, ciphertext, commitment, context, commitments)
    z_v = group.scalar_add(_response(k_v, c, moved), group.scalar_mult(c, _SHIFT_BACK))
    return c + z_v + _response(k_r, c, randomness) + _response(k_b, c, blinding)


def verify_equal(
    public: bytes, ciphertext: Ciphertext, commitment: bytes, proof: bytes, context: bytes
) -> bool:
    """Tell whether a proof of :func:`prove_equal` holds.

    Parameters
    ----------
    public : bytes
        The key ``Y`` of the ciphertext.
    ciphertext : Ciphertext
    commitment : bytes
    proof : bytes
        Anything a peer sent.
    context : bytes
        What the proof must be for.

    Returns
    -------
    bool
        False for every proof that is malformed, changed, or of another statement or context.
    """
    if not isinstance(proof, bytes) or len(proof) != EQUAL_PROOF_BYTES:
        return False
    c, z_v, z_r, z_b = (proof[at : at + _SCALAR] for at in range(0, EQUAL_PROOF_BYTES, _SCALAR))
    g, h = pedersen_g(), pedersen_h()
    try:
        value_part = group.base_mult(z_v)
        commitments = (
            _unanswered(z_r, g, c, ciphertext.first),
            group.sub(
                group.add(value_part, group.mult(z_r, public)), group.mult(c, ciphertext.second)
            ),
            group.sub(group.add(value_part, group.mult(z_b, h)), group.mult(c, commitment)),
        )
    except CryptoError:
        return False
    expected = _equal_challenge(public, ciphertext, commitment, context, commitments)
    return hmac.compare_digest(expected, c)


# --------------------------------------------------------------------------------- decryption


def decryption_proof_bytes(count: int) -> int:
    """Return the length of a proof about ``count`` ciphertexts: 32 bytes each, and 64."""
    return count * _POINT + 2 * _SCALAR


def _decryption_statement(
    public: bytes, ciphertexts: Sequence[Ciphertext], shared: Sequence[bytes], context: bytes
) -> bytes:
    points = b"".join(one.to_bytes() for one in ciphertexts)
    packed = _packed(pedersen_g(), public, points, b"".join(shared), context)
    return hashlib.sha512(packed).digest()


def _composites(
    statement: bytes, ciphertexts: Sequence[Ciphertext], shared: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return ``Σ d_j·A_j`` and ``Σ d_j·S_j``."""
    base = image = b""
    for number, (one, point) in enumerate(zip(ciphertexts, shared, strict=True)):
        weight = group.hash_to_scalar(statement + number.to_bytes(2, "big"), _WEIGHT_DST)
        left, right = group.mult(weight, one.first), group.mult(weight, point)
        base = group.add(base, left) if base else left
        image = group.add(image, right) if image else right
    return base, image


def _decryption_challenge(statement: bytes, *points: bytes) -> bytes:
    return group.hash_to_scalar(_packed(statement, *points), _DECRYPT_DST)


def prove_decryption(
    key: DecryptionKey, ciphertexts: Sequence[Ciphertext], context: bytes
) -> bytes:
    """Prove how ciphertexts decrypt, without giving the key.

    Parameters
    ----------
    key : DecryptionKey
    ciphertexts : sequence of Ciphertext
        1 to 129, all under this key.
    context : bytes
        What the proof is for; it verifies with these bytes only.

    Returns
    -------
    bytes
        32 bytes per ciphertext, the points ``S_j``, and the proof of 64 bytes. Whoever reads it
        can decrypt these ciphertexts and no others.

    Raises
    ------
    InputError
        If there are no ciphertexts, or more than a test has.
    """
    if not 1 <= len(ciphertexts) <= MAX_CIPHERTEXTS:
        raise InputError(f"a proof is about 1 to {MAX_CIPHERTEXTS} ciphertexts.", step=_STEP)
    shared = [key.shared(one) for one in ciphertexts]
    statement = _decryption_statement(key.public, ciphertexts, shared, context)
    base, image = _composites(statement, ciphertexts, shared)
    k = group.random_scalar()
    c = _decryption_challenge(statement, base, image, group.base_mult(k), group.mult(k, base))
    return b"".join(shared) + c + _response(k, c, key.private_bytes())


def verify_decryption(
    public: bytes, ciphertexts: Sequence[Ciphertext], proof: bytes, context: bytes
) -> tuple[bool, ...]:
    """Check a proof of :func:`prove_decryption` and read which ciphertexts hold zero.

    Parameters
    ----------
    public : bytes
        The key ``Y`` of the ciphertexts.
    ciphertexts : sequence of Ciphertext
        All that the proof is about, in its order.
    proof : bytes
        Anything a party handed over.
    context : bytes
        What the proof must be for.

    Returns
    -------
    tuple of bool
        For every ciphertext, whether it holds zero.

    Raises
    ------
    CiphertextError
        If the proof is malformed, changed, or of another key, other ciphertexts or context.
    """
    n = len(ciphertexts)
    if (
        not 1 <= n <= MAX_CIPHERTEXTS
        or not isinstance(proof, bytes)
        or len(proof) != decryption_proof_bytes(n)
    ):
        raise _not_proven()
    shared = [proof[at : at + _POINT] for at in range(0, n * _POINT, _POINT)]
    c, z = proof[n * _POINT : n * _POINT + _SCALAR], proof[n * _POINT + _SCALAR :]
    statement = _decryption_statement(public, ciphertexts, shared, context)
    try:
        base, image = _composites(statement, ciphertexts, shared)
        commitments = (
            _unanswered(z, pedersen_g(), c, public),
            _unanswered(z, base, c, image),
        )
    except CryptoError:
        raise _not_proven() from None
    expected = _decryption_challenge(statement, base, image, *commitments)
    if not hmac.compare_digest(expected, c):
        raise _not_proven()
    return tuple(one.second == point for one, point in zip(ciphertexts, shared, strict=True))


def _not_proven() -> CiphertextError:
    return CiphertextError(
        "a proof of decryption does not hold.",
        step=_STEP,
        fix="ask the institution for the proof that belongs to this statement",
    )
