"""What an institution gets and checks: reasons, own features, and that nothing is forged."""

from __future__ import annotations

import base64
import dataclasses
import json

import numpy as np
import pytest

from fedcredit.errors import AuthenticationError, FedCreditError, InputError, PeerProtocolError
from fedcredit.models.card_part import CardPart
from fedcredit.models.scoring.receipts import PartStatement, Receipt, canonical, sign_statement
from fedcredit.protocols import scoring
from fedcredit.protocols.scoring_messages import MODES
from fedcredit.wire import Identity
from tests.support.service import (
    BANDS,
    BANK,
    CARD,
    OWN,
    PLATFORM,
    SUPPLIED,
    Case,
    changed,
    generous,
    own_values,
)

PROVIDERS = ("tax", "social", "bureau")


@pytest.fixture
def case():
    return Case(3, (CARD,), budgets=generous())


def test_what_comes_with_a_score(case):
    result = case.ask(case.world.strangers[0])
    assert result.score == case.world.pooled_points([case.world.strangers[0]])[0]
    assert result.band == [name for name, low in BANDS.items() if result.score >= low][-1]
    assert dict(result.as_of) == dict.fromkeys(case.parties, "2027-01-15")
    assert result.no_record
    assert (result.model, result.fallback, result.missing, result.reasons) == (CARD, False, (), ())
    assert result.digest == case.world.deploy(CARD).digest
    for hidden in (result.subject, str(result.score)):
        assert hidden not in repr(result)
        assert hidden not in result.receipt.to_json()
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["score"] == result.score
    assert plain["subject"] == result.subject


def test_models_are_described(case):
    case.world.deploy(OWN)
    found = {model.target: model for model in case.bank.models()}
    assert found[CARD].parties == case.parties
    assert {feature.name for feature in found[OWN].own_features} == set(SUPPLIED)
    # How a value is put into its bin must be known; what the bins are worth is not.
    text = found[OWN].to_json()
    assert '"rule"' in text
    assert "woe" not in text
    for item in CardPart.of_platform(case.world.card).characteristics:
        assert 'points":[' not in text
        assert not any(repr(point) in text for point in item.points.tolist() if point % 1)


def test_a_batch_is_answered_as_a_whole_or_not_at_all(case):
    codes = case.codes(30)
    tokens = case.consents(codes)
    with pytest.raises(FedCreditError, match=r"number 30 of 30"):
        case.bank.score_batch(codes, [*tokens[:-1], tokens[0]], model=CARD)
    assert not any(case.answered(party) for party in case.parties)
    batch = case.bank.score_batch(codes, tokens, model=CARD)
    frame = batch.to_frame()
    assert frame["subject"].tolist() == codes
    np.testing.assert_array_equal(frame["score"], case.world.pooled_points(codes))
    assert len(batch) == 30
    assert [r.score for r in batch[5:7]] == batch.scores[5:7].tolist()


@pytest.mark.parametrize("codes", [["91310115MAPGK2X01W"] * 2, ["nonsense"], [""], []])
def test_enterprises_that_are_none_or_twice(case, codes):
    with pytest.raises(FedCreditError):
        case.bank.score_batch(codes, ["x"] * len(codes), model=CARD)
    assert not any(case.entries(party, "score", "refusal") for party in case.parties)


# ------------------------------------------------------------------- the institution's features


@pytest.fixture
def own_case():
    return Case(3, (OWN,), budgets=generous())


@pytest.mark.parametrize("mode", MODES)
def test_own_values_give_the_platforms_score(own_case, mode):
    codes = own_case.codes(50)
    values = own_values(own_case, codes)
    want = own_case.world.pooled_points(codes)
    tokens = own_case.consents(codes, OWN, max_uses=9)
    batch = own_case.bank.score_batch(codes, tokens, model=OWN, mode=mode, own=values)
    np.testing.assert_array_equal(batch.scores, want)
    one = own_case.bank.score(
        codes[3], tokens[3], model=OWN, mode=mode, own=values.iloc[3].to_dict()
    )
    assert one.score == want[3]
    # The values count: those of other enterprises, and missing ones, give other scores.
    others = values.iloc[::-1].reset_index(drop=True)
    shuffled = own_case.bank.score_batch(codes, tokens, model=OWN, mode=mode, own=others)
    difference = shuffled.scores - want
    assert (difference != 0).any()
    part = CardPart.of_platform(own_case.world.card)
    given = dataclasses.replace(
        part, characteristics=[c for c in part.characteristics if c.name in SUPPLIED]
    )
    np.testing.assert_array_equal(difference, given.points(others) - given.points(values))
    gaps = values.assign(registration_years=np.nan, region=None)
    assert (own_case.bank.score_batch(codes, tokens, model=OWN, own=gaps).scores != want).any()


@pytest.mark.parametrize(
    "own",
    [
        None,
        {"region": "Sichuan"},
        {"region": "Sichuan", "registration_year": 3},
        {"region": ["Sichuan", "Hunan"], "registration_years": [1, 2]},
        {"region": "Sichuan", "registration_years": "long"},
        {"region": "Sichuan", "registration_years": float("inf")},
    ],
    ids=str,
)
def test_own_values_that_do_not_fit(own_case, own):
    with pytest.raises(InputError) as caught:
        own_case.ask(model=OWN, own=own)
    assert caught.value.fix
    assert "Sichuan" not in str(caught.value)
    assert not any(own_case.entries(party, "score", "refusal") for party in own_case.parties)


def test_own_values_for_a_model_without(case):
    with pytest.raises(InputError, match="no features of the institution's own"):
        case.ask(own={"region": "Sichuan"})


# ---------------------------------------------------------------------------------- reasons


def losses(case, party, code):
    """Points that every column of a party costs an enterprise, by hand."""
    world = case.world
    if party == PLATFORM:
        part = CardPart.of_platform(world.card)
    else:
        part = CardPart.of_provider(world.fed.engines[party], world.card.model_id_)
    table = world.tables[party].iloc[[world.rows[party][code]]]
    neutral = dict(
        zip(
            (c.label for c in world.card.share_.of(party)),
            (c.neutral("max") for c in world.card.share_.of(party)),
            strict=True,
        )
    )
    return {
        c.name: neutral[c.name] - float(c.points[c.bins(table, party=party)][0])
        for c in part.characteristics
    }


def severities(lost):
    """Up to half a doubling of the odds (20 points), up to one, more."""
    return {name: 1 if v <= 10 else 2 if v <= 20 else 3 for name, v in lost.items() if v > 0}


def grained(monkeypatch, case, party, grain, groups=None):
    """Set the grain of a provider's fields in its catalog."""
    engine = case.world.fed.engines[party]
    catalog = engine.catalog
    for name in (f for f in catalog.to_dict()["fields"] if f != "uscc"):
        extra = {"group": (groups or {}).get(name, "rest")} if grain == "group" else {}
        catalog = changed(catalog, name, reason_grain=grain, **extra)
    monkeypatch.setattr(engine, "catalog", catalog)
    case.gate(party).catalog = catalog


@pytest.mark.parametrize("asked", [1, 2, 4])
def test_reasons_are_the_largest_losses_of_every_party(case, asked):
    codes = case.codes(25)
    batch = case.bank.score_batch(codes, case.consents(codes), model=CARD, reasons=asked)
    for result in batch:
        for party in case.parties:
            want = severities(losses(case, party, result.subject))
            lost = losses(case, party, result.subject)
            given = [r for r in result.reasons if r.party == party]
            assert len(given) == min(asked, len(want))
            assert all(r.severity == want[r.label] for r in given)
            least = min((lost[r.label] for r in given), default=0)
            left = {name: v for name, v in lost.items() if name not in {r.label for r in given}}
            assert all(v <= least or len(given) < asked for v in left.values())
        order = [r.severity for r in result.reasons]
        assert order == sorted(order, reverse=True)
    assert any(len(result.reasons) > asked for result in batch)
    # Reasons travel for the institution alone, and the log says that they were given.
    assert case.entries("tax", "score")[-1].facts["reasons"] is True


def test_reasons_of_groups_and_of_parties(case, monkeypatch):
    groups = {"zero_declaration_months": "filing", "late_filings_12m": "filing"}
    grained(monkeypatch, case, "tax", "group", groups)
    grained(monkeypatch, case, "social", "party")
    codes = case.codes(25)
    for result in case.bank.score_batch(codes, case.consents(codes), model=CARD, reasons=4):
        lost = losses(case, "tax", result.subject)
        summed = {"filing": 0.0, "rest": lost["arrears"]}
        for name, group in groups.items():
            summed[group] += lost[name]
        tax = {r.label: r.severity for r in result.reasons if r.party == "tax"}
        assert tax == severities(summed)
        whole = {"social": sum(losses(case, "social", result.subject).values())}
        social = {r.label: r.severity for r in result.reasons if r.party == "social"}
        assert social == severities(whole)
        bureau = {r.label: r.severity for r in result.reasons if r.party == "bureau"}
        assert bureau == severities(losses(case, "bureau", result.subject))


def test_fields_that_are_no_reason_of_their_own_count_under_their_party(case, monkeypatch):
    grained(monkeypatch, case, "tax", "none")
    codes = case.codes(25)
    for result in case.bank.score_batch(codes, case.consents(codes), model=CARD, reasons=4):
        whole = {"tax": sum(losses(case, "tax", result.subject).values())}
        assert {r.label: r.severity for r in result.reasons if r.party == "tax"} == severities(
            whole
        )


def test_no_reasons_unless_asked_for(case):
    codes = case.codes(10)
    assert not any(
        r.reasons for r in case.bank.score_batch(codes, case.consents(codes), model=CARD)
    )


# ----------------------------------------------------------- answers that were tampered with


def tampering(monkeypatch, change):
    """Let somebody on the way change every answer before the institution reads it."""
    read = scoring.open_answer

    def spoilt(keys, holder, request, digest, answer):
        return read(keys, holder, request, digest, change(answer))

    monkeypatch.setattr(scoring, "open_answer", spoilt)


def kept_answer(case, monkeypatch, **options):
    """An honest answer to another question, as it travelled."""
    seen = []
    tampering(monkeypatch, lambda answer: seen.append(answer) or answer)
    case.ask(case.codes(2)[1], **options)
    monkeypatch.undo()
    return seen[0]


def replaced(items, index, item):
    return (*items[:index], item, *items[index + 1 :])


def edited(statement, signer=None, **changes):
    """A signed statement that says something else; under the old signature unless signed anew."""
    read = PartStatement.read(statement)
    values = {**read.values, **changes}
    if signer is not None:
        return sign_statement(signer, values)
    signature = json.loads(statement)["signature"]
    return canonical({"statement": canonical(values).decode(), "signature": signature})


FORGERIES = {
    "a receipt with another entry": (
        "tax",
        lambda a, old: {"receipts": replaced(a.receipts, 1, edited(a.receipts[1], entry=77))},
    ),
    "a receipt of another request": (
        "social",
        lambda a, old: {"receipts": replaced(a.receipts, 2, old.receipts[2])},
    ),
    "receipts of two parties swapped": (
        "tax",
        lambda a, old: {"receipts": (a.receipts[0], a.receipts[2], a.receipts[1], a.receipts[3])},
    ),
    "no receipt": ("bureau", lambda a, old: {"receipts": replaced(a.receipts, 3, b"")}),
    "a note of another request": (
        "social",
        lambda a, old: {"notes": replaced(a.notes, 2, old.notes[2])},
    ),
    "notes of two parties swapped": (
        "tax",
        lambda a, old: {"notes": (a.notes[0], a.notes[2], a.notes[1], a.notes[3])},
    ),
    "one party's note left out": ("platform", lambda a, old: {"notes": a.notes[:3]}),
    "another header": (
        "platform",
        lambda a, old: {"metadata": a.metadata.replace(b'"low":600.0', b'"low":500.0')},
    ),
    "another request": ("platform", lambda a, old: {"request": old.request}),
    "the seal of another request": ("platform", lambda a, old: {"seal": old.seal}),
    "no seal": ("platform", lambda a, old: {"seal": b""}),
    "an edited seal": (
        "platform",
        lambda a, old: {"seal": edited(a.seal, result="00" * 32)},
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", FORGERIES)
def test_answers_forged_on_the_way(case, monkeypatch, mode, what):
    party, change = FORGERIES[what]
    old = kept_answer(case, monkeypatch, mode=mode)
    tampering(monkeypatch, lambda a: dataclasses.replace(a, **change(a, old)))
    with pytest.raises((PeerProtocolError, AuthenticationError)) as caught:
        case.ask(mode=mode)
    assert caught.value.party == party, str(caught.value)
    monkeypatch.undo()
    # Without the forger all is well, in a new session.
    case.ask(case.codes(3)[2], mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_sums_of_another_request(case, monkeypatch, mode):
    old = kept_answer(case, monkeypatch, mode=mode)
    tampering(
        monkeypatch,
        lambda a: dataclasses.replace(a, ciphertexts=old.ciphertexts, sealed=old.sealed),
    )
    with pytest.raises((PeerProtocolError, AuthenticationError)) as caught:
        case.ask(mode=mode)
    assert caught.value.party == PLATFORM


@pytest.mark.parametrize(
    "change",
    [
        {"party": "social"},
        {"institution": "leasing"},
        {"purpose": "insurance"},
        {"target": "sme-card@2"},
        {"model": "00" * 32},
        {"request": "00" * 32},
        {"subjects": 2},
        {"consents": "00" * 32},
        {"header": "00" * 32},
        {"payload": "00" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("party", ["tax", PLATFORM])
def test_a_party_that_signs_something_else(case, monkeypatch, party, change):
    """Signed with its own key, and handed over in good order."""
    desk = case.desks[party]
    state = type(desk).statement

    def lying(self, *arguments, **options):
        statement = state(self, *arguments, **options)
        return edited(statement, self.signer, **change) if self is desk else statement

    monkeypatch.setattr(type(desk), "statement", lying)
    with pytest.raises(AuthenticationError) as caught:
        case.ask()
    assert caught.value.party == party


@pytest.mark.parametrize("party", ["tax", PLATFORM])
def test_a_party_with_another_key(case, party):
    """Somebody who serves in a party's name without its key."""
    case.desks[party].signer = Identity.generate(party)
    with pytest.raises(AuthenticationError, match="invalid signature") as caught:
        case.ask()
    assert caught.value.party == party


# --------------------------------------------------------------------------- receipts at rest


@pytest.fixture(scope="module")
def receipts():
    """Two receipts, and the keys of the parties."""
    case = Case(3, (CARD,))
    keys = {name: identity.public_key for name, identity in case.service.identities.items()}
    made = [case.ask(code).receipt for code in case.codes(2)]
    case.bank.close()
    return *made, keys


def test_a_receipt_is_checked_without_anybody(receipts):
    one, two, keys = receipts
    read = Receipt.from_json(one.to_json())
    stated = read.verify(keys)
    assert set(stated) == {PLATFORM, *PROVIDERS}
    for party, values in stated.items():
        assert values["party"] == party
        assert (values["institution"], values["purpose"]) == (BANK, "credit_granting")
        assert (values["target"], values["subjects"], values["entry"] >= 0) == (CARD, 1, True)
        assert values["as_of"] == "2027-01-15"
    assert len({values["payload"] for values in stated.values()}) == 4
    assert stated["tax"]["request"] != two.verify(keys)["tax"]["request"]


def _spoilt(receipt, **changes):
    return Receipt.from_json(dataclasses.replace(receipt, **changes).to_json())


@pytest.mark.parametrize("party", [PLATFORM, *PROVIDERS])
def test_a_receipt_that_was_edited(receipts, party):
    one, _, keys = receipts
    values = PartStatement.read(one.statements[party]).values
    for name, value in values.items():
        other = {str: "x" + str(value), int: 999_983, float: 1.5}[type(value)]
        statements = {**one.statements, party: edited(one.statements[party], **{name: other})}
        with pytest.raises(AuthenticationError) as caught:
            _spoilt(one, statements=statements).verify(keys)
        assert caught.value.party == party, name
    for statement in (
        edited(one.statements[party], more=1),
        one.statements[party][:-9] + b'AAAAAA=="',
        b"{}",
        b"no statement",
    ):
        with pytest.raises(AuthenticationError) as caught:
            _spoilt(one, statements={**one.statements, party: statement}).verify(keys)
        assert caught.value.party == party


def test_a_receipt_put_together_from_others(receipts):
    one, two, keys = receipts
    swapped = {**one.statements, "tax": one.statements["social"], "social": one.statements["tax"]}
    mixed = {**one.statements, "tax": two.statements["tax"]}
    short = {p: s for p, s in one.statements.items() if p != "bureau"}
    for statements, party in ((swapped, "tax"), (mixed, "tax"), (short, "bureau")):
        with pytest.raises(AuthenticationError) as caught:
            _spoilt(one, statements=statements).verify(keys)
        assert caught.value.party == party
    with pytest.raises(AuthenticationError) as caught:
        _spoilt(one, seal=two.seal).verify(keys)
    assert caught.value.party == PLATFORM
    for changes in ({"bands": ()}, {"target": "sme-card@2"}, {"digest": "0" * 64}):
        header = dataclasses.replace(one.header, **changes)
        with pytest.raises(AuthenticationError):
            _spoilt(one, header=header).verify(keys)
    strangers = {**keys, "tax": Identity.generate("tax").public_key}
    with pytest.raises(AuthenticationError) as caught:
        one.verify(strangers)
    assert caught.value.party == "tax"
    with pytest.raises(AuthenticationError, match="missing"):
        one.verify({PLATFORM: keys[PLATFORM]})


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "fedcredit.receipt/1"}', "nonsense"])
def test_what_is_no_receipt(text):
    with pytest.raises(InputError, match="no receipt"):
        Receipt.from_json(text)


def test_a_receipt_has_no_score_and_no_enterprise(receipts):
    one, _, _ = receipts
    text = one.to_json()
    for party, statement in one.statements.items():
        text += PartStatement.read(statement, party=party).body.decode()
    text += base64.b64encode(one.seal).decode()
    for code in Case(3, (CARD,)).codes(2):
        assert code not in text
