"""The lines of a scorecard for ``fedcredit scorecard table``, at the platform or at a provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcredit.errors import ConfigError, InputError, StorageError

if TYPE_CHECKING:
    import pandas as pd

    from fedcredit.node.config import NodeConfig

__all__ = [
    "cell_text",
    "chosen_lines",
    "platform_table",
    "provider_table",
    "read_card",
    "write_csv",
]

#: As ``model_id_`` of a scorecard.
_MODEL_ID = re.compile("[0-9a-f]{16}")


def read_card(path: Path) -> bytes:
    """Return a scorecard's file (ConfigError if it cannot be read)."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}).",
            step="load scorecard",
            fix="name the file that `fedcredit scorecard train --model` wrote",
        ) from None


def platform_table(path: Path) -> pd.DataFrame:
    """Return the lines of a saved scorecard as the platform knows them.

    Raises
    ------
    ConfigError
        The file cannot be read.
    InputError
        It is no scorecard.
    """
    data = read_card(path)
    from fedcredit.models.scorecard import VerticalScorecard

    return VerticalScorecard.load(data).table()


def provider_table(settings: NodeConfig, model_id: str) -> pd.DataFrame:
    """Return a provider's own lines of a scorecard, with the limits of its bins.

    Parameters
    ----------
    settings : NodeConfig
        The provider's.
    model_id : str

    Raises
    ------
    ConfigError
        ``model_id`` is none.
    InputError
        The card is not known here.
    StorageError
        The provider's directory cannot be read.
    """
    if _MODEL_ID.fullmatch(model_id) is None:
        raise ConfigError(
            "--id is not the id of a scorecard.",
            party=settings.party,
            step="scorecard table",
            fix="give the 16 hexadecimal digits that `scorecard train` printed",
        )
    import pandas as pd

    from fedcredit.governance.catalog import Catalog
    from fedcredit.models.engine import ProviderEngine
    from fedcredit.models.engine_scorecard import own_table
    from fedcredit.models.store import MemoryStore

    # A copy: the party's own process holds the directory and may be writing to it.
    store = MemoryStore()
    try:
        for kind in ("card", "binner"):
            for path in (settings.storage / kind).glob("[!.]*"):
                store.put(kind, path.name, path.read_bytes())
    except OSError as error:
        raise StorageError(
            f"{settings.storage} cannot be read ({error.strerror}).",
            party=settings.party,
            step="scorecard table",
            fix="run this as the user whose process serves the party",
        ) from None
    if store.get("card", model_id) is None:
        raise InputError(
            f"no scorecard {model_id} is kept here.",
            party=settings.party,
            step="scorecard table",
            fix=f"use one of {', '.join(known)}"
            if (known := store.keys("card"))
            else "fit one; a card keeps a part at a provider only if it uses its features",
        )
    # Nothing leaves: the owner looks at its own part, and no table is read.
    catalog = Catalog.open_for((), provider=settings.party)
    engine = ProviderEngine(settings.party, pd.DataFrame(), catalog=catalog, store=store)
    return own_table(engine, model_id)


def chosen_lines(shown: pd.DataFrame, feature: str | None, party: str) -> pd.DataFrame:
    """Return the lines of one feature, named with its party or, if it is the own one, without."""
    if feature is None:
        return shown
    owner = shown.get("party", party)
    names = owner + "." + shown["feature"]
    found = shown[names.isin([feature, f"{party}.{feature}"])]
    if not len(found):
        raise InputError(
            f"the card has no characteristic {feature!r}.",
            step="scorecard table",
            fix=f"use one of {', '.join(dict.fromkeys(names))}",
        )
    return found


def write_csv(shown: pd.DataFrame, out: Path) -> None:
    """Write lines as CSV (StorageError if the file cannot be written)."""
    try:
        shown.to_csv(out, index=False)
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written ({error.strerror}).", step="scorecard table"
        ) from None


def cell_text(value: Any) -> str:
    """Return what stands in a cell on the terminal."""
    import pandas as pd

    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
