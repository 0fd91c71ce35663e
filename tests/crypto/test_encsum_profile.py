import dataclasses

import pytest

from fedcredit.crypto.encsum_profile import MAX_ROWS, SumProfile
from fedcredit.errors import ParameterError


def test_presets_keep_their_promises():
    packed = SumProfile.packed(150_000)
    assert (packed.degree, packed.primes, packed.plain_bits, packed.block) == (4096, 3, 42, 512)
    assert (packed.flood_bits, packed.answer_bits, packed.packed_answers) == (49, 52, True)
    assert packed.statistical_distance() == pytest.approx(-39.5, abs=0.1)
    exact = SumProfile.exact(1_000_000)
    assert exact.plain_bits == 37
    assert exact.statistical_distance() < -42
    assert SumProfile.exact(30_000).plain_bits == 32
    assured = SumProfile.high_assurance(MAX_ROWS)
    assert (assured.degree, assured.primes, assured.block) == (8192, 4, 2048)
    assert assured.statistical_distance() < -60


def test_distance_is_a_union_bound():
    profile = SumProfile.packed(30_000)
    one, many = profile.statistical_distance(), profile.statistical_distance(1 << 20)
    assert many - one == pytest.approx(20)


def test_derived_sizes():
    profile = SumProfile.packed(150_000, block=1024)
    assert profile.bins_per_mask == 4
    assert profile.coefficient_bits == (31, 31, 31, 16)
    assert profile.blocks(1025) == 2
    assert profile.ciphertext_bytes(150_000) == 147 * (4096 * 3 * 31 // 8 + 64)
    assert profile.galois_elements == tuple(2 ** (3 + i) + 1 for i in range(10))
    assert dataclasses.replace(profile, packed_answers=False).galois_elements == ()


def test_five_primes():
    wide = SumProfile(8192, 5, 48, 512, 100, 58, True, 1000)
    assert wide.statistical_distance() < -90
    assert len(wide.context.primes) == 6


def test_dict_round_trip():
    profile = SumProfile.exact(5000, block=256)
    values = profile.to_dict()
    assert all(type(v) is int for v in values.values())
    assert SumProfile.from_dict(values) == profile


@pytest.mark.parametrize(
    "change",
    [
        {"degree": 2048},
        {"degree": 4096.0},
        {"primes": 4},
        {"primes": 2},
        {"block": 100},
        {"block": 0},
        {"block": -512},
        {"block": 128},
        {"block": 4096},
        {"plain_bits": 53},
        {"plain_bits": 4},
        {"plain_bits": 43},
        {"flood_bits": 50},
        {"flood_bits": 0},
        {"answer_bits": 42},
        {"answer_bits": 48},
        {"answer_bits": 63},
        {"packed_answers": 2},
        {"max_rows": 0},
        {"max_rows": MAX_ROWS + 1},
    ],
)
def test_profiles_outside_the_table(change):
    profile = SumProfile.packed(1000)
    with pytest.raises(ParameterError):
        dataclasses.replace(profile, **change)
    with pytest.raises(ParameterError):
        SumProfile.from_dict({**profile.to_dict(), **change})


def test_dict_with_other_fields():
    values = SumProfile.packed(1000).to_dict()
    with pytest.raises(ParameterError):
        SumProfile.from_dict({**values, "extra": 1})
    del values["degree"]
    with pytest.raises(ParameterError):
        SumProfile.from_dict(values)
