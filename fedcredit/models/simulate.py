"""A federation whose parties all live in this process, for notebooks, tests and studies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedcredit.errors import InputError
from fedcredit.governance.catalog import Catalog
from fedcredit.models.backend import InProcessBackend
from fedcredit.models.columns import to_pandas
from fedcredit.models.engine import ProviderEngine
from fedcredit.models.federation import Federation, require_known
from fedcredit.models.policy import ProviderPolicy
from fedcredit.protocols.progress import Progress, ignore

__all__ = ["OWN_TABLES", "simulate"]

_PLATFORM = "platform"
#: Party names stand before the dot in the names of columns.
_PARTY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

#: What :func:`simulate` allows with the caller's own tables.
OWN_TABLES = ProviderPolicy(
    release_feature_names=True, allow_user_splits=True, allow_exact_predictor=True
)


def simulate(
    *,
    platform: Any,
    policy: ProviderPolicy | Mapping[str, ProviderPolicy] | None = None,
    catalog: Mapping[str, Catalog] | None = None,
    categorical: Mapping[str, Sequence[str]] | None = None,
    threads: int = 2,
    on_progress: Progress = ignore,
    **providers: Any,
) -> Federation:
    """Make a federation whose parties all live in this process.

    The protocols, messages and ciphertexts are those of real nodes; only the network is missing.

    Parameters
    ----------
    platform : table
        The label holder's table. Like every table: pandas, or anything that exports Arrow.
    policy : ProviderPolicy or mapping of provider to ProviderPolicy, optional
        By default feature names are released, and split points and exact predictors allowed, since
        all tables are the caller's own; see :class:`ProviderPolicy` for what a real provider
        starts from.
    catalog : mapping of provider to Catalog, optional
        What each provider's fields may be used for, with its menu of predicates; by default
        everything but verification, of which the menu would be missing.
    categorical : mapping of party to columns, optional
        Columns to treat as categories whatever their type; the platform's under ``"platform"``.
    threads : int
        Threads of each provider.
    on_progress : callable (step, done, total), optional
    **providers : table
        One table per data provider, by name.

    Returns
    -------
    Federation

    Raises
    ------
    InputError
        A table cannot be read, a name is unknown, or a provider's name is not made of letters,
        digits, ``-`` and ``_``.

    Examples
    --------
    >>> import fedcredit as fc
    >>> population = fc.datasets.make_sme_population(2_000, seed=1)
    >>> fed = fc.simulate(platform=population.platform, tax=population.tax)
    >>> fed.align(on="uscc")  # doctest: +SKIP
    """
    named = {*(policy if isinstance(policy, Mapping) else ()), *(categorical or {})}
    named |= set(catalog or {})
    require_known(named - {_PLATFORM}, tuple(providers), step="simulate")
    engines = {}
    for name, table in providers.items():
        if not _PARTY_NAME.fullmatch(name):
            raise InputError(
                "a provider's name holds something other than letters, digits, '-' and '_'.",
                step="simulate",
                fix="name the provider's keyword like that",
            )
        chosen = policy.get(name) if isinstance(policy, Mapping) else policy
        frame = to_pandas(table, party=name)
        engines[name] = ProviderEngine(
            name,
            frame,
            catalog=(catalog or {}).get(name) or Catalog.open_for(frame, provider=name),
            policy=chosen or OWN_TABLES,
            categorical=(categorical or {}).get(name, ()),
            threads=threads,
        )
    return Federation(
        InProcessBackend(_PLATFORM, engines),
        platform,
        engines=engines,
        categorical=(categorical or {}).get(_PLATFORM, ()),
        on_progress=on_progress,
    )
