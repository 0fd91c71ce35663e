"""Where the real data sets are, if they are."""

from pathlib import Path

import pytest

from tests.support.real_data import data_directory


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = data_directory()
    if not folder.is_dir():
        pytest.skip("the real data sets are not here: set FEDCREDIT_DATA to their folder")
    return folder
