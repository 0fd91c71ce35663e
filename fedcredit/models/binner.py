"""Weights of evidence of all parties' features, fitted without any party showing its values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from fedcredit.errors import InputError, PolicyError
from fedcredit.models.at_rest import (
    describe,
    json_able,
    read_bytes,
    reading_model,
    restore,
    write_bytes,
)
from fedcredit.models.binner_arguments import (
    binary_target,
    by_party,
    merge_options,
    trends_by_party,
)
from fedcredit.models.binner_job import BinningJob, count_rows, release_woe
from fedcredit.models.binner_store import StoredBinner
from fedcredit.models.binner_tables import MergeOptions, stability_table
from fedcredit.models.binner_views import BinnerTables
from fedcredit.models.federation import Federation
from fedcredit.models.fitting import choose_columns, choose_rows, label_columns
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.local import checked_table, checked_training, local_frame

__all__ = ["VerticalBinner"]


class VerticalBinner(BinnerTables):
    """Bins every party's features by weight of evidence (WOE) and information value (IV).

    Providers cut their own columns into fine bins; events are counted in these under encryption;
    the platform merges the bins, sees how many rows and events each has, and never where a
    provider's bin begins. Merging, splitting and trends can be changed afterwards without asking
    any provider again. See :mod:`fedcredit.protocols.binning` for who learns what.

    Parameters
    ----------
    method : {"optimal", "chimerge", "none"}
        How fine bins are merged; see :func:`fedcredit.stats.bin_merging.merge_bins`.
    max_bins : int
        Largest number of final intervals or groups of categories of a feature; special and
        missing bins come on top.
    prebins : int
        Largest number of intervals into which a numeric column is cut before merging.
    min_bin_share : float
        Smallest share of rows in a final interval or group.
    trend : str or mapping of str to str
        ``"auto"``, ``"ascending"``, ``"descending"``, ``"peak"``, ``"valley"`` or ``"none"``: how
        the event rate moves over the intervals. By name for single features; others are "auto".
    smoothing : float
        Added to events and non-events of every bin; see :func:`fedcredit.stats.woe.woe_table`.
    convention : {"bad_over_good", "good_over_bad"}
        Whether a positive weight means more or less risk than average.
    event : optional
        The class that counts as event; by default the larger of the two, for 0 and 1 hence 1.
    user_splits : mapping of str to sequence of float, optional
        Cut points by feature. These features are cut there, ``[a, b)``, and not merged, except
        that a bin below its owner's floor joins a neighbour.
    special_codes : sequence of float, or mapping of str to sequence of float, optional
        Values with a bin of their own, for all numeric columns of the platform or by feature. A
        provider has to allow split points and codes that the platform chooses
        (``allow_user_splits``).
    categorical_features : sequence of str
        Columns of the platform to treat as categories whatever their type.
    features : sequence of str, optional
        The features, of all parties; by default all.
    release_woe : bool
        Whether :meth:`publish` may send providers the weights of their own features. From these
        a provider learns the event rate in each of its bins; without them it cannot take part in
        models on WOE columns.

    Attributes
    ----------
    names_ : list of str
        ``party.label`` of all features, the platform's first.
    platform_ : str
    providers_ : tuple of str
        The providers that have a feature.
    classes_ : ndarray, shape (2,)
    event_ : object
        The class that counts as event.
    binner_id_ : str
        Under which providers keep the weights that were published last; empty before. An edit
        and a new :meth:`publish` make a new id, and what was published before stays.

    Examples
    --------
    >>> import fedcredit as fc
    >>> from fedcredit.models.binner import VerticalBinner
    >>> population = fc.datasets.make_sme_population(2_000, seed=1)
    >>> fed = fc.simulate(platform=population.platform, tax=population.tax)
    >>> frame = fed.align(on="uscc")
    >>> binner = VerticalBinner().fit(frame, y="default")
    >>> list(binner.binning_table(binner.names_[0]).columns)[:3]
    ['Bin', 'Count', 'Count (%)']
    """

    def __init__(
        self,
        method: str = "optimal",
        *,
        max_bins: int = 8,
        prebins: int = 20,
        min_bin_share: float = 0.05,
        trend: str | Mapping[str, str] = "auto",
        smoothing: float = 0.5,
        convention: str = "bad_over_good",
        event: Any = None,
        user_splits: Mapping[str, Sequence[float]] | None = None,
        special_codes: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
        categorical_features: Sequence[str] = (),
        features: Sequence[str] | None = None,
        release_woe: bool = True,
    ) -> None:
        self.method = method
        self.max_bins = max_bins
        self.prebins = prebins
        self.min_bin_share = min_bin_share
        self.trend = trend
        self.smoothing = smoothing
        self.convention = convention
        self.event = event
        self.user_splits = user_splits
        self.special_codes = special_codes
        self.categorical_features = categorical_features
        self.features = features
        self.release_woe = release_woe

    # ---------------------------------------------------------------------- fitting

    def fit(self, X: FederatedFrame | Any, y: Any = None) -> Self:
        """Count and merge.

        Parameters
        ----------
        X : FederatedFrame, or table of one party (n, k)
        y : str or array of shape (n,)
            The platform's label column, or the labels in the frame's order: two classes.

        Returns
        -------
        self

        Raises
        ------
        InputError
            Labels, columns or arguments that cannot be used.
        BudgetError, PolicyError
            A provider has answered as often as it allows, or does not allow what was asked.
        ProtocolError, TransportError
            A provider fails or cannot be reached.
        """
        self.__dict__.pop("features_", None)
        options = self.options_ = merge_options(self)
        if isinstance(X, FederatedFrame):
            frame = X
            self.__dict__.pop("feature_names_in_", None)
        else:
            table, y = checked_training(self, X, y, numeric=False)
            frame = local_frame(table)
        platform = frame.federation.platform
        rows = choose_rows(frame, y, None, None, fraction=None, stratify=False, seed=0)
        self.classes_, self.event_, target = binary_target(rows.y, self.event)
        exclude = label_columns(rows, y, None) if frame is X else ()
        bare = [name.removeprefix(f"{platform}.") for name in self.categorical_features]
        job = BinningJob(
            rows=rows,
            y=target,
            use=choose_columns(frame, self.features, None).use,
            exclude=exclude,
            categorical=(*bare, *frame.federation.categorical),
            prebins=self.prebins,
            splits=by_party(frame, self.user_splits or {}),
            special_codes=self._special_codes(frame, exclude, bare),
            options=options,
            trends=trends_by_party(frame, self.trend),
            trend=self.trend if isinstance(self.trend, str) else "auto",
        )
        self.bin_id_, features = job.run()
        self.platform_, self.providers_ = platform, job.providers
        self.federation_ = frame.federation
        self.target_ = y if isinstance(y, str) else "y"
        self.n_features_in_ = len(frame.columns) - len(exclude)
        self.binner_id_ = ""
        self.features_ = {feature.name: feature for feature in features}
        return self

    def _special_codes(
        self, frame: FederatedFrame, exclude: Sequence[str], categorical: Sequence[str]
    ) -> dict[str, dict[str, tuple[float, ...]]]:
        codes = self.special_codes
        if codes is None or isinstance(codes, Mapping):
            return by_party(frame, codes or {})
        platform, table = frame.federation.platform, frame.platform
        skip = {*exclude, *categorical, *frame.federation.categorical}
        use = choose_columns(frame, self.features, None).use
        chosen = table.columns if use is None else use.get(platform, ())
        numeric = [
            name
            for name in chosen
            if name not in skip and pd.api.types.is_numeric_dtype(table[name].dtype)
        ]
        return by_party(frame, {f"{platform}.{name}": codes for name in numeric})

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "features_")

    # -------------------------------------------------------------------- other rows

    def transform_own(
        self, frame: FederatedFrame | Any, names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Encode the platform's usable features by their weights of evidence.

        A category that did not occur in the fit counts as missing; missing values where the fit
        had none have weight 0.

        Parameters
        ----------
        frame : FederatedFrame, or the platform's table
        names : sequence of str, optional
            Only these features; those of providers are left out.

        Returns
        -------
        pandas.DataFrame, shape (n, features)
            Columns ``party.label`` in the order of the fit, rows in the order of the frame.

        Raises
        ------
        InputError
            A feature is unknown, or its column missing or of another type.
        """
        check_is_fitted(self)
        table = self._own_table(frame)
        columns = {}
        for label in self.labels_of(self.platform_, names):
            feature = self.features_[f"{self.platform_}.{label}"]
            assert feature.coder is not None
            assert feature.rule is not None
            place, _ = feature.places()
            values = feature.coder.transform(table, party=self.platform_)
            columns[feature.name] = feature.woe(self.options_).woe[
                place[feature.rule.apply(values)]
            ]
        return pd.DataFrame(columns, index=range(len(table)), dtype=np.float64)

    def _own_table(self, frame: FederatedFrame | Any) -> pd.DataFrame:
        if isinstance(frame, FederatedFrame):
            return frame.platform
        table = checked_table(self, frame, reset=False) if not self.providers_ else frame
        return table.reset_index(drop=True)

    def stability(self, frame: FederatedFrame | Any) -> pd.DataFrame:
        """Compare the distribution of other rows over the bins with that of the fit.

        Providers count rows, without labels; bins below their floor are counted together.

        Returns
        -------
        pandas.DataFrame
            Population stability index and verdict per usable feature, by name.

        Raises
        ------
        InputError
            The frame has no rows, or a row twice.
        PolicyError
            A provider finds that the rows, with those counted before, would single out a few.
        """
        check_is_fitted(self)
        if not isinstance(frame, FederatedFrame):
            frame = local_frame(self._own_table(frame))
        if not len(frame):
            raise InputError("the frame has no rows.", step="stability", fix="choose some rows")
        features = [self.features_[name] for name in self.usable()]
        return stability_table(features, count_rows(frame, self.bin_id_, features), self.options_)

    # ----------------------------------------------------------------------- release

    def publish(self) -> str:
        """Send every provider the weights of its own usable features; see ``release_woe``.

        Does nothing if they were published as they are now.

        Returns
        -------
        str
            ``binner_id_``, under which providers keep them; empty without providers.

        Raises
        ------
        PolicyError
            The binner keeps its weights to itself.
        InputError
            The binner was loaded without a federation.
        """
        check_is_fitted(self)
        features = [self.features_[name] for name in self.usable()]
        theirs = [feature for feature in features if feature.party != self.platform_]
        if not theirs:
            return self.binner_id_
        if not self.release_woe:
            raise PolicyError(
                "this binner keeps its weights of evidence to the platform.",
                step="publish",
                fix="use VerticalBinner(release_woe=True); providers then learn the event rate in "
                "each of their bins",
            )
        plain = [[f.name, f.groups] for f in theirs] + [repr(self.options_)]
        state = hashlib.sha256(json.dumps(plain).encode()).hexdigest()
        binner_id = f"{self.bin_id_}-{state[:16]}"
        if binner_id == self.binner_id_:
            return binner_id
        release_woe(self._federation(), self.bin_id_, binner_id, theirs, self.options_)
        self.binner_id_ = binner_id
        return binner_id

    def _federation(self) -> Federation:
        federation: Federation | None = getattr(self, "federation_", None)
        if federation is None:
            raise InputError(
                "this copy of the binner knows no federation.",
                step="publish",
                fix="load it with VerticalBinner.load(path, federation)",
            )
        return federation

    # ----------------------------------------------------------------------- at rest

    def to_bytes(self) -> bytes:
        """Encode the binner; the providers keep their own part."""
        check_is_fitted(self)
        extra = {
            **describe(self),
            "arguments": json_able(self.get_params(deep=False)),
            "options": dataclasses.asdict(self.options_),
            "event": json_able(self.event_),
            "platform": self.platform_,
            "providers": list(self.providers_),
            "bin_id": self.bin_id_,
            "binner_id": self.binner_id_,
            "target": self.target_,
        }
        return StoredBinner.of(list(self.features_.values()), extra).to_bytes()

    def save(self, path: str | Path) -> None:
        """Write the platform's part.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        write_bytes(path, self.to_bytes(), step="save binner")

    @classmethod
    def load(cls, source: str | Path | bytes, federation: Federation | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        source : path or bytes
        federation : Federation, optional
            Whose providers hold the other part; needed to publish.

        Raises
        ------
        InputError
            The file is no binner.
        StorageError
            The file cannot be read.
        """
        data = read_bytes(source, step="load binner")
        features, extra = StoredBinner.read(data).unpack()
        with reading_model():
            binner = cls(**extra["arguments"])
            binner.options_ = MergeOptions(**extra["options"])
            restore(binner, extra)
            binner.event_ = extra["event"]
            binner.platform_ = str(extra["platform"])
            binner.providers_ = tuple(extra["providers"])
            binner.bin_id_, binner.binner_id_ = str(extra["bin_id"]), str(extra["binner_id"])
            binner.target_ = str(extra["target"])
        if federation is not None:
            binner.federation_ = federation
        binner.features_ = {feature.name: feature for feature in features}
        return binner

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold the counts, not the tables and connections behind them.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("federation_", None)
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags
