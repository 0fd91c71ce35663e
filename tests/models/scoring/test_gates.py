"""What stands behind every answer: one use of a consent, a line in the log, a row in the usage."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from fedcredit.errors import Refusal
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.gate import Gate
from fedcredit.governance.institutions import onboard
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.question import Question
from fedcredit.governance.schema import KEYS
from fedcredit.governance.usage import usage_table
from fedcredit.models.scoring.served import read_served
from fedcredit.wire import Identity
from tests.support.service import (
    BANK,
    CARD,
    DAY,
    NOW,
    PLATFORM,
    Case,
    changed,
    generous,
)

AT_ONCE = 100


# ------------------------------------------------------------------------------- concurrently


@pytest.mark.parametrize("uses", [1, 7])
@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_consent_is_used_as_often_as_it_says(tmp_path, place, uses):
    """Many questions with one consent at the same time; in a file, through several gates."""
    case = Case(3, (), budgets=generous())
    url = "sqlite://" if place == "memory" else f"sqlite:///{tmp_path / 'tax.db'}"
    identity = Identity.generate("tax")
    gates = []
    for _ in range(1 if place == "memory" else 4):
        ledger = Ledger(url, party="tax")
        gates.append(
            Gate(
                ledger,
                case.gate("tax").catalog,
                AuditLog(ledger, identity),
                party="tax",
                clock=case.clock,
                budgets=generous(),
            )
        )
    (code,) = case.codes(1)
    (token,) = case.consents([code], max_uses=uses)
    with gates[0].ledger.transaction() as tx, case.gate("tax").ledger.reading() as registry:
        onboard(
            tx,
            BANK,
            assessment="A-1",
            assessed=NOW - DAY,
            expires=NOW + DAY,
            purposes=["credit_granting"],
            now=NOW,
        )
        tx.execute(KEYS.insert(), [dict(row._mapping) for row in registry.execute(KEYS.select())])
    start = threading.Barrier(16)

    def ask(number):
        if number < 16:
            start.wait(30)
        question = Question(
            BANK,
            "credit_granting",
            "score",
            CARD,
            ("arrears",),
            (code,),
            (token,),
            number.to_bytes(32, "big"),
        )
        try:
            return gates[number % len(gates)].admit(question).entry
        except Refusal as refusal:
            return refusal.code

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(ask, range(AT_ONCE)))
    admitted = [r for r in results if isinstance(r, int)]
    assert len(admitted) == len(set(admitted)) == uses
    assert results.count("consent_used") == AT_ONCE - uses
    logged = list(gates[0].log.entries())
    assert [e.number for e in logged if e.kind == "score"] == sorted(admitted)
    assert len([e for e in logged if e.kind == "refusal"]) == AT_ONCE - uses
    for gate in gates:
        gate.ledger.close()


# --------------------------------------------------------------------- nothing without its log


def limit(ledger, pages=None):
    """Let a database grow by so many pages, or without limit."""
    with ledger.transaction() as tx:
        used = tx.exec_driver_sql("PRAGMA page_count").scalar()
        tx.exec_driver_sql(f"PRAGMA max_page_count={2**30 if pages is None else used + pages}")


@pytest.mark.parametrize("party", ["tax", PLATFORM])
def test_nothing_is_answered_that_cannot_be_logged(party):
    """A full disk at one party, over many questions: as many answers as entries."""
    case = Case(3, (CARD,), budgets=generous(), keep=True)
    codes = case.codes(60)
    tokens = case.consents(codes, max_uses=3)
    ledger = case.gate(party).ledger
    limit(ledger, 4)
    given, refused = [], []
    for code, token in zip(codes, tokens, strict=True):
        try:
            given.append(case.ask(code, token))
        except Refusal as refusal:
            refused.append(refusal)
    assert len(refused) > 20
    assert {(r.code, r.party) for r in refused} == {("log_failed", party)}
    assert all("full" in r.reason for r in refused)
    logged = {e.facts["request"]: e.number for e in case.entries(party, "score")}
    assert len(given) == case.answered(party) == len(logged)
    for result in given:
        statement = result.receipt.verify(
            {name: identity.public_key for name, identity in case.service.identities.items()}
        )[party]
        assert logged[statement["request"]] == statement["entry"]
    records = case.service.transcript.records
    assert len([r for r in records if r.message.kind == "scoring.answer"]) == len(given)
    # Room again: the questions that failed are answered, and their consents were not used up.
    limit(ledger)
    for code, token in list(zip(codes, tokens, strict=True))[-3:]:
        assert case.ask(code, token).score
    assert case.answered(party) == len(given) + 3


def test_no_verification_without_its_log():
    case = Case(3, (CARD,), budgets=generous(), keep=True)
    codes = case.codes(60)
    case.register(codes)
    limit(case.gate("tax").ledger, 2)
    given, refused = 0, []
    for code in codes:
        token = case.grant(code, "verify:tax.filed_late_at_most")
        try:
            case.verify(code, token, threshold=3)
            given += 1
        except Refusal as refusal:
            refused.append(refusal.code)
    assert len(refused) > 20
    assert set(refused) == {"log_failed"}
    assert given == case.answered("tax")


# --------------------------------------------------------------------------------------- usage


def test_the_usage_of_every_field_is_on_record():
    case = Case(3, (), budgets=generous())
    world = case.world
    for target, model in (("sme-used@1", world.card), ("sme-used@2", world.trees)):
        if target not in [m.target for m in world.fed.served()]:
            world.fed.deploy(model, target)
    other = case.service.accede("leasing")
    codes = case.codes(10)
    tokens = case.consents(codes, "sme-used@1", "sme-used@2", max_uses=9)
    for _ in range(2):
        case.bank.score_batch(codes, tokens, model="sme-used@1")
    case.clock.now += 2 * DAY
    case.ask(codes[0], tokens[0], model="sme-used@2")
    leased = case.grant(
        codes[0], "score:sme-used@1", institution="leasing", purpose="financial_leasing"
    )
    with pytest.raises(Refusal) as caught:
        other.score(codes[0], leased, model="sme-used@1", purpose="financial_leasing")
    assert caught.value.code == "purpose_denied"
    with pytest.raises(Refusal):
        case.ask(codes[0], leased, model="sme-used@1")

    table = usage_table(case.gate("tax").ledger)
    served = table[table["target"].str.startswith("sme-used")]
    card = served[(served["target"] == "sme-used@1") & (served["institution"] == BANK)]
    assert sorted(card["field"]) == sorted(
        ["zero_declaration_months", "late_filings_12m", "arrears"]
    )
    assert set(card["purpose"]) == {"credit_granting"}
    assert set(card["use"]) == {"score"}
    assert (card["answered"].tolist(), card["enterprises"].tolist()) == ([2] * 3, [20] * 3)
    assert card["refused"].tolist() == [1] * 3
    assert (card["first"] == pd.Timestamp(NOW, unit="s", tz="UTC")).all()
    assert (card["last"] > card["first"]).all()
    trees = served[served["target"] == "sme-used@2"]
    assert set(trees["answered"]) <= {1}
    # The contribution of every field to the model, as its deployment noted it.
    noted = card.set_index("field")["contribution"]
    assert noted.notna().all()
    assert 0 < noted.sum() < 1
    assert set(card["measure"]) == {"points"}
    total = 0.0
    for name in world.providers:
        mine = usage_table(case.gate(name).ledger, institution=BANK)
        mine = mine[mine["target"] == "sme-used@1"]
        total += mine["contribution"].sum()
    assert 0 < total < 1
    # No enterprise anywhere in it.
    text = table.to_csv()
    assert not any(code in text for code in codes)
    assert case.outcomes("tax")["admitted"] == 3


def test_deploying_and_withdrawing_are_logged():
    case = Case(3, ())
    world = case.world
    header = world.fed.deploy(world.card, "sme-logged@1")
    for name in world.providers:
        entry = case.entries(name)[-1]
        assert (entry.kind, entry.facts["target"]) == ("deploy", "sme-logged@1")
        assert entry.facts["digest"] == header.digest
        assert set(entry.facts["fields"]) <= set(world.tables[name].columns)
    world.fed.withdraw("sme-logged@1")
    for name in world.providers:
        entry = case.entries(name)[-1]
        assert (entry.kind, entry.facts["target"]) == ("withdraw", "sme-logged@1")


def test_a_version_never_changes_its_meaning():
    case = Case(3, (CARD,))
    world = case.world
    with pytest.raises(Exception, match="another model is served"):
        world.fed.deploy(world.card, CARD, own_features=["region"])
    assert case.ask().model == CARD


def test_a_provider_whose_catalog_denies_a_field_prevents_the_deployment(monkeypatch):
    case = Case(3, (CARD,))
    world = case.world
    engine = world.fed.engines["social"]
    monkeypatch.setattr(
        engine, "catalog", changed(engine.catalog, "insured_staff", uses=["training"])
    )
    with pytest.raises(Refusal) as caught:
        world.fed.deploy(world.card, "sme-denied@1")
    assert (caught.value.code, caught.value.party) == ("field_denied", "social")
    assert "sme-denied@1" not in [m.target for m in world.fed.served()]
    for name in world.providers:
        with pytest.raises(Refusal, match="not served here"):
            read_served(world.fed.engines[name].store, "sme-denied@1", party=name)
