"""The messages of the joint Gram matrix; see :mod:`fedcredit.protocols.gram`."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire import F64x2, Message, U64x1

__all__ = ["GramAngles", "GramCorrection", "GramMasked", "GramOwn", "GramSeed", "GramStart"]


@dataclass(frozen=True, eq=False, repr=False)
class GramStart(
    Message,
    kind="gram.start",
    version=1,
    max_bytes=64 << 10,
    reveals="the number of rows and of every party's columns, and whether rows are weighted",
):
    """Label holder to provider: ``sizes`` are the providers' columns, in the order of the job."""

    n_rows: int
    own_columns: int
    sizes: tuple[int, ...]
    weighted: bool


@dataclass(frozen=True, eq=False, repr=False)
class GramOwn(
    Message,
    kind="gram.own",
    version=1,
    reveals="inner products of the provider's own (unnamed) columns, in units of their mean "
    "squares",
):
    """Provider to label holder: its own unweighted block, shape (d, d)."""

    products: F64x2


@dataclass(frozen=True, eq=False, repr=False)
class GramSeed(
    Message,
    kind="gram.seed",
    version=1,
    max_bytes=4 << 10,
    reveals="nothing: the random seed of masks",
):
    """Label holder to provider: seed of the masks of its angles, 32 bytes."""

    seed: bytes


@dataclass(frozen=True, eq=False, repr=False)
class GramAngles(
    Message,
    kind="gram.angles",
    version=1,
    max_bytes=64 << 20,
    reveals="nothing: one column as uniformly masked angles, sealed between the two providers",
):
    """Provider to provider: masked angles of one column, sealed with AES-256-GCM.

    The label holder knows the masks, the other provider knows the angles.
    """

    sealed: bytes


@dataclass(frozen=True, eq=False, repr=False)
class GramMasked(
    Message,
    kind="gram.masked",
    version=1,
    max_bytes=256 << 20,
    reveals="nothing: one column under a mask that only the providers know",
):
    """Provider to label holder: one column, fixed point, plus a mask modulo 2^64, shape (n,)."""

    values: U64x1


@dataclass(frozen=True, eq=False, repr=False)
class GramCorrection(
    Message,
    kind="gram.correction",
    version=1,
    reveals="with all providers' corrections the inner products of columns of two providers",
):
    """Provider to label holder: what the masks add to the products, under a zero share.

    One number per pair of columns of different providers, modulo 2^64.
    """

    values: U64x1
