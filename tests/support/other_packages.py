"""Running the packages that ours is compared with."""

import contextlib
import io
import warnings
from unittest import mock

import pandas as pd

_to_numeric = pd.to_numeric


def _to_numeric_of_old(values, errors="raise", **options):
    """The option "ignore" that scorecardpy relies on and pandas 3 no longer has."""
    if errors != "ignore":
        return _to_numeric(values, errors=errors, **options)
    try:
        return _to_numeric(values, **options)
    except (TypeError, ValueError):
        return values


@contextlib.contextmanager
def quiet():
    """Let another package run: its warnings and prints are not ours to fail on."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(pd, "to_numeric", _to_numeric_of_old),
    ):
        warnings.simplefilter("ignore")
        yield
