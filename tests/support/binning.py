"""A joint frame and a binner fitted to it, made once per process."""

import copy
import functools

import fedcredit as fc
from fedcredit.models.binner import VerticalBinner
from tests.support.parties import FEATURES, LABEL, federation, tables

ROWS = 400
#: The columns of all parties.
POOLED = [column for columns in FEATURES.values() for column in columns]


def policy(**changes):
    """A provider without a floor that answers again and again, unless changed."""
    settings = {"min_intersection": 1, "min_bin_count": 1, "release_feature_names": True}
    return fc.ProviderPolicy(**(settings | {"max_binnings_per_feature": 1000} | changes))


FREE = policy(allow_user_splits=True)


@functools.cache
def parts_and_pooled():
    return tables(ROWS, seed=3)


@functools.cache
def joint_frame():
    return federation(parts_and_pooled()[0], policy=FREE).align(on="id")


@functools.cache
def _fitted():
    return VerticalBinner().fit(joint_frame(), y=LABEL)


def fitted_binner():
    """A copy to be changed at will, of the federation of `joint_frame`."""
    out = copy.deepcopy(_fitted())
    out.federation_ = joint_frame().federation
    return out
