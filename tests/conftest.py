"""The order of the test files, and what the processes inherit that tests start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
#: The longest files, longest first. They are begun first, so that the processes of a parallel run
#: have short files to share out at its end.
LONG = (
    "test_notebooks.py",
    "models/test_logistic.py",
    "cli/test_end_to_end.py",
    "node/test_training_survives.py",
    "cli/test_scorecard.py",
    "test_examples.py",
    "protocols/test_logistic.py",
    "protocols/test_gbdt.py",
    "twins/test_service_scores.py",
    "node/test_scorecard_survives.py",
    "test_readme.py",
)


def pytest_configure(config: pytest.Config) -> None:
    # Or pytest-xdist would begin with the files of the most tests, which are not the longest.
    config.option.loadscopereorder = False
    # Dozens of processes are started, each of which would compile all of the package anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {ROOT / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
