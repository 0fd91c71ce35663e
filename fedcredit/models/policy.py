"""What a data owner allows: the limits that its own engine holds every job to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProviderPolicy"]


@dataclass(frozen=True)
class ProviderPolicy:
    """Limits that a provider sets and its engine enforces.

    Attributes
    ----------
    min_intersection : int
        Fewer common enterprises than this end an alignment.
    min_bin_count : int
        Rows that a bin must hold before anything about it leaves the party.
    min_node_rows : int
        With open membership, a node of fewer rows is refused.
    release_feature_names : bool
        Whether feature names, rather than numbers, may stand in reports elsewhere.
    max_trees : int
        Trees of one model.
    max_splits_per_feature : int or None
        How often a model may split on one of the provider's features; None for no limit.
    allow_sorted : bool
        Whether a job may show the provider which rows share a node (the faster mode).
    """

    min_intersection: int = 50
    min_bin_count: int = 10
    min_node_rows: int = 10
    release_feature_names: bool = False
    max_trees: int = 1000
    max_splits_per_feature: int | None = None
    allow_sorted: bool = True
