"""The homomorphic schemes of the encrypted sums, chosen by the type of the profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.encsum_keyholder import SumKeyHolder
from fedcredit.crypto.encsum_messages import CiphertextChunk, SumAnswers, SumPublicKeys
from fedcredit.crypto.encsum_profile import SumProfile
from fedcredit.crypto.encsum_provider import MaskPlan, SumAccumulator
from fedcredit.crypto.paillier_profile import PaillierProfile, PaillierPublicKeys
from fedcredit.crypto.paillier_sums import PaillierAccumulator, PaillierKeyHolder, PaillierPlan

__all__ = ["AnyPlan", "AnyProfile", "AnyPublicKeys", "SumScheme", "read_profile", "scheme_of"]

AnyProfile = SumProfile | PaillierProfile
AnyPublicKeys = SumPublicKeys | PaillierPublicKeys
AnyPlan = MaskPlan | PaillierPlan


class _KeyHolder(Protocol):
    def public_keys(self) -> AnyPublicKeys: ...

    def encrypt(self, values: npt.NDArray[np.int64]) -> Iterator[CiphertextChunk]: ...

    def decrypt(
        self, answers: SumAnswers, n_vectors: int, bins: Sequence[int]
    ) -> npt.NDArray[np.int64]: ...


class _Accumulator(Protocol):
    def add(self, chunk: CiphertextChunk) -> None: ...

    def finish(self) -> SumAnswers: ...


@dataclass(frozen=True)
class SumScheme:
    """What makes up a scheme.

    Attributes
    ----------
    key_holder : callable (profile)
    public_keys : callable (profile, public_key, galois_keys)
    plan : callable (bins, n_bins, profile, threads)
    accumulator : callable (profile, public_keys, plan, n_vectors, threads)
    """

    key_holder: Callable[[Any], _KeyHolder]
    public_keys: Callable[[Any, bytes, bytes], AnyPublicKeys]
    plan: Callable[[Any, Any, Any, int], AnyPlan]
    accumulator: Callable[[Any, Any, Any, int, int], _Accumulator]


_BFV = SumScheme(SumKeyHolder, SumPublicKeys, MaskPlan, SumAccumulator)
_PAILLIER = SumScheme(PaillierKeyHolder, PaillierPublicKeys, PaillierPlan, PaillierAccumulator)


def scheme_of(profile: AnyProfile) -> SumScheme:
    """Return the scheme that a profile is of."""
    return _PAILLIER if isinstance(profile, PaillierProfile) else _BFV


def read_profile(values: Mapping[str, int]) -> AnyProfile:
    """Read a profile of either scheme from its fields, as the peer sent them.

    Raises
    ------
    ParameterError
        The fields are those of no scheme, or not valid.
    """
    kind = PaillierProfile if "key_bits" in values else SumProfile
    return kind.from_dict(values)
