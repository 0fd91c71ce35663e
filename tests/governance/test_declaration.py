"""Credit commitments: what is signed, what stays hidden, what is checked."""

import json
import pickle
import stat
from decimal import Decimal

import numpy as np
import pytest

from fedcredit.crypto import pedersen
from fedcredit.errors import InputError, Refusal, StorageError
from fedcredit.governance.declaration import (
    DEFAULT_PLEDGE,
    Declaration,
    Figure,
    Opening,
    check_opening,
    parse_declaration,
    to_steps,
    verify_declaration,
)
from tests.support.consents import DAY, NOW, Book, b64, enterprise, forge, key_of, taken_apart, uscc

VALUE = 523_417


@pytest.fixture
def keys():
    return Book(subjects=2).keys


def declare(number=1, **changes):
    settings = {"field": "annual_paid", "value": VALUE, "unit": "CNY", "resolution": 1000}
    return enterprise(number).declare(**(settings | {"now": NOW} | changes))


def refused(call, *args, **kwargs):
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    assert caught.value.code == "declaration_invalid"
    assert uscc(1) not in str(caught.value)
    return str(caught.value)


def test_a_declaration_commits_to_the_figure(keys):
    made = declare(pledge="我们保证所报数据真实。")
    declared = verify_declaration(made.token, keys, NOW)
    assert (declared.subject, declared.pledge) == (uscc(1), "我们保证所报数据真实。")
    assert (declared.issued, declared.expires) == (int(NOW), int(NOW) + 366 * DAY)
    (item,) = declared.items
    assert (item.field, item.unit, item.resolution) == ("annual_paid", "CNY", Decimal(1000))
    opening = made.opening("annual_paid")
    assert opening.steps == 523
    assert item.commitment == pedersen.commit(523, opening.blinding)
    check_opening(item, opening)


def test_the_token_does_not_show_the_figure():
    made = declare()
    head, claims = taken_apart(made.token)
    assert head["typ"] == "fedcredit-declaration+jwt"
    assert claims["pledge"] == DEFAULT_PLEDGE
    assert set(claims["items"][0]) == {"field", "unit", "resolution", "commitment"}
    assert "523" not in json.dumps(claims["items"][0] | {"commitment": ""})
    assert declare().token.split(".")[1] != made.token.split(".")[1]
    for secret in (repr(made), repr(made.openings), repr(Figure("f", VALUE))):
        assert "523" not in secret
    for thing in (made, made.openings[0]):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_several_figures(keys):
    figures = [Figure("annual_paid", "523417.55", "CNY", "0.01"), Figure("staff", 41)]
    made = enterprise().declare_figures(figures, now=NOW)
    declared = verify_declaration(made.token, keys, NOW)
    assert [opening.steps for opening in made.openings] == [52_341_755, 41]
    assert declared.item("annual_paid").resolution == Decimal("0.01")
    for name in ("annual_paid", "staff"):
        check_opening(declared.item(name), made.opening(name))
    refused(check_opening, declared.item("staff"), made.opening("annual_paid"))
    refused(declared.item, "other")
    with pytest.raises(InputError):
        made.opening("other")


def test_another_figure_does_not_open(keys):
    made = declare()
    item, opening = parse_declaration(made.token).items[0], made.openings[0]
    other = declare().openings[0]
    for wrong in (
        Opening("annual_paid", 524, opening.blinding),
        Opening("annual_paid", 523, other.blinding),
        Opening("annual_paid", 523, bytes(32)),
        Opening("annual_paid", 2**70, opening.blinding),
        Opening("annual_paid", "523", opening.blinding),
        Opening("staff", 523, opening.blinding),
    ):
        refused(check_opening, item, wrong)


def test_the_signature_is_a_key_of_the_subject(keys):
    token = declare().token
    head, claims = taken_apart(token)
    refused(verify_declaration, forge(key_of(2), head, claims), keys, NOW)
    refused(
        verify_declaration, forge(key_of(2), head | {"kid": enterprise(2).kid}, claims), keys, NOW
    )
    refused(verify_declaration, declare(9).token, keys, NOW)
    refused(verify_declaration, token[:-2], keys, NOW)
    assert "expired" in refused(verify_declaration, token, keys, NOW + 366 * DAY + 60)
    assert "future" in refused(verify_declaration, token, keys, NOW - 61)
    verify_declaration(token, keys, NOW + 366 * DAY + 59)
    keys.revoke(enterprise().kid, NOW)
    refused(verify_declaration, token, keys, NOW)


def item(**changes):
    made = {"field": "staff", "unit": "", "resolution": "1"}
    return made | {"commitment": b64(pedersen.commit(1, (1).to_bytes(32, "little")))} | changes


WRONG = [
    {"pledge": ""},
    {"pledge": "x" * 1001},
    {"pledge": "a\nb"},
    {"pledge": None},
    {"items": []},
    {"items": {}},
    {"items": [item()] * 2},
    {"items": [item(field=f"f{i}") for i in range(17)]},
    {"items": ["x"]},
    {"items": [item(extra=1)]},
    {"items": [item(field="")]},
    {"items": [item(field="a b")]},
    {"items": [item(unit=1)]},
    {"items": [item(unit="x" * 33)]},
    {"items": [item(resolution=value) for value in (1,)]},
    *({"items": [item(resolution=value)]} for value in ("0", "-1", "1.0", "01", "1e3", "NaN", "")),
    {"items": [item(commitment="AAAA")]},
    {"items": [item(commitment=b64(bytes(32)))]},
    {"items": [item(commitment=b64(b"\xff" * 32))]},
    {"items": [item(commitment=None)]},
    {"iat": 1.5},
    {"exp": int(NOW)},
    {"exp": int(NOW) + 733 * DAY},
    {"jti": "x"},
    {"iss": uscc(2)},
    {"more": 1},
]


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_signed_claims_of_another_form_are_refused(keys, changes):
    head, claims = taken_apart(declare().token)
    verify_declaration(forge(key_of(), head, claims | {"items": [item()]}), keys, NOW)
    refused(verify_declaration, forge(key_of(), head, claims | changes), keys, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": None},
        {"value": True},
        {"value": "many"},
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": 10**30},
        {"value": Decimal("1e90")},
        {"resolution": 0},
        {"resolution": -5},
        {"field": "a b"},
        {"unit": "x" * 40},
        {"pledge": "\0"},
        {"valid_days": 0},
        {"valid_days": 733},
    ],
)
def test_other_figures_are_not_declared(changes):
    with pytest.raises(InputError) as caught:
        declare(**changes)
    assert "many" not in str(caught.value)


def test_steps_are_those_of_numpy_on_a_column():
    draw = np.random.default_rng(3)
    column = np.round(draw.normal(scale=1e6, size=500), 2)
    for resolution in (1000, 500, 1):
        steps = np.rint(column / resolution).astype(np.int64)
        assert [to_steps(float(value), resolution) for value in column] == steps.tolist()
    assert [to_steps(value, 1000) for value in (500, 1500, 2500, -500)] == [0, 2, 2, 0]
    assert to_steps(0.3, 0.1) == 3


def test_a_declaration_is_handed_over_as_one_private_file(tmp_path):
    made = declare()
    made.save(tmp_path / "declaration.json")
    assert stat.S_IMODE((tmp_path / "declaration.json").stat().st_mode) == 0o600
    assert Declaration.load(tmp_path / "declaration.json") == made
    with pytest.raises(StorageError):
        made.save(tmp_path / "declaration.json")
    stored = json.loads((tmp_path / "declaration.json").read_text())
    stored["openings"][0]["steps"] += 1
    (tmp_path / "forged.json").write_text(json.dumps(stored))
    refused(Declaration.load, tmp_path / "forged.json")
    for text in ("", "[]", "{}", '{"token": "x", "openings": [{}]}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(InputError):
            Declaration.load(tmp_path / "other.json")
    with pytest.raises(StorageError):
        Declaration.load(tmp_path / "none.json")
