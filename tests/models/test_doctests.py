"""The examples in the documentation of models run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import fedcredit.models

FOUND = pkgutil.walk_packages(fedcredit.models.__path__, "fedcredit.models.")
MODULES = ["fedcredit", *sorted(module.name for module in FOUND)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert failed == 0


def test_the_estimators_and_the_federation_have_examples():
    finder = doctest.DocTestFinder()
    for name in ("fedcredit.models.gbdt", "fedcredit.models.simulate"):
        tests = finder.find(importlib.import_module(name))
        assert sum(len(test.examples) for test in tests) >= 3
