"""Jobs of the platform around served models: deploy, commit, withdraw."""

from __future__ import annotations

from dataclasses import dataclass

from fedcredit.wire import F64x1, Message

__all__ = ["DeployCommit", "DeployJob", "Deployed", "PartReady", "WithdrawJob"]


@dataclass(frozen=True, eq=False, repr=False)
class DeployJob(
    Message,
    kind="deploy.job",
    version=1,
    max_bytes=16 << 20,
    reveals="which model is to be served under which name, for what, and by whom; of a forest the "
    "places of the provider's own splits; how much its features contribute",
):
    """Platform to provider: make your part of this model ready to be served.

    ``labels`` and ``shares`` are the provider's features and their part of the model's total
    ``measure`` ("gain", "iv" or "points").
    """

    target: str
    kind_of_model: str
    model_id: str
    providers: tuple[str, ...]
    purposes: tuple[str, ...]
    scale_bits: int
    positions: bytes
    labels: tuple[str, ...]
    shares: F64x1
    measure: str


@dataclass(frozen=True, eq=False, repr=False)
class PartReady(
    Message, kind="deploy.ready", version=1, max_bytes=4 << 10, reveals="a digest of the part"
):
    """Provider to platform: its part is ready; a salt in it hides it behind the digest."""

    digest: str


@dataclass(frozen=True, eq=False, repr=False)
class DeployCommit(
    Message,
    kind="deploy.commit",
    version=1,
    max_bytes=4 << 20,
    reveals="the header that every party of the model keeps",
):
    """Platform to provider: all parts are ready; serve it under this header."""

    header: str


@dataclass(frozen=True, eq=False, repr=False)
class Deployed(
    Message, kind="deploy.done", version=1, max_bytes=4 << 10, reveals="that the model is served"
):
    """Provider to platform: done, with the number of the entry in the audit log."""

    entry: int


@dataclass(frozen=True, eq=False, repr=False)
class WithdrawJob(
    Message,
    kind="deploy.withdraw",
    version=1,
    max_bytes=4 << 10,
    reveals="which model is no longer served",
):
    """Platform to provider: serve this model no more."""

    target: str
