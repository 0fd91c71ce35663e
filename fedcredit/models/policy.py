"""What a data owner allows: the limits that its own engine holds every job to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from fedcredit.errors import InputError

__all__ = ["ProviderPolicy", "ReasonGrain"]

ReasonGrain = Literal["feature", "group", "party"]


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
    allow_user_splits : bool
        Whether the platform may choose split points and special codes of the provider's features;
        otherwise it never learns where a bin begins.
    max_binnings_per_feature : int
        How often the events in a feature's bins may be counted, over all jobs.
    release_correlations : bool
        Whether the platform may learn the correlations of the provider's binned features.
    max_correlated_columns : int
        How many columns of the platform, over all jobs, the provider's may be correlated with. A
        platform that encrypts a column of one row reads that row's values off a correlation.
    release_coefficients : bool
        Whether the platform may learn the provider's coefficients and standard errors.
    max_revealed_predictors : int or None
        How often a sum that holds the provider's linear predictor of a row may be shown to the
        platform, over all models; None for half the number of the provider's features. The
        predictors of as many models as there are features would give the features themselves.
    allow_exact_predictor : bool
        Whether revealed predictors may be exact. Otherwise they are rounded at random to about
        one point of a scorecard, so that bins cannot be read off a row's sum.
    reason_grain : {"feature", "group", "party"}
        How finely reason codes may name the provider's part in a score.
    feature_groups : mapping of str to str
        Group of each feature, for ``reason_grain="group"``.

    Raises
    ------
    InputError
        The grain is unknown.
    """

    min_intersection: int = 50
    min_bin_count: int = 10
    min_node_rows: int = 10
    release_feature_names: bool = False
    max_trees: int = 1000
    max_splits_per_feature: int | None = None
    allow_sorted: bool = True
    allow_user_splits: bool = False
    max_binnings_per_feature: int = 3
    release_correlations: bool = True
    max_correlated_columns: int = 500
    release_coefficients: bool = True
    max_revealed_predictors: int | None = None
    allow_exact_predictor: bool = False
    reason_grain: ReasonGrain = "feature"
    feature_groups: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reason_grain not in get_args(ReasonGrain):
            raise InputError(
                "the policy's reason_grain is unknown.",
                step="policy",
                fix=f"use one of {', '.join(get_args(ReasonGrain))}",
            )
