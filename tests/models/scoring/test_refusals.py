"""Every rule that refuses a question: its code, who refuses, and what stands in that party's books.

Not reached by a question of an institution: ``aggregation_too_small`` (jobs of the platform),
``grain_denied`` (a party gives coarser reasons instead), and ``consent_*`` are the same for scores
and verifications, so verifications show a few only.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fedcredit.errors import Refusal
from fedcredit.governance import institutions
from fedcredit.governance.alarms import list_alarms
from fedcredit.governance.budgets import BudgetRules
from fedcredit.governance.codes import CODES
from fedcredit.governance.question import Question
from fedcredit.governance.schema import INSTITUTIONS
from fedcredit.protocols import scoring
from fedcredit.protocols.verification import DeclaredValue
from tests.support.service import (
    BANK,
    CARD,
    CAREFUL,
    DAY,
    LITE,
    NOW,
    OWN,
    PLATFORM,
    TREES,
    Case,
    changed,
    own_values,
)

#: Code of every rule that is shown here; the last test holds it to the list of codes.
SHOWN: set[str] = set()
RULES = []


def rule(code, party=None):
    """A rule that refuses; the function prepares a case and returns how to ask.

    Without a party all of them refuse.
    """
    SHOWN.add(code)

    def note(prepare):
        RULES.append(pytest.param(code, party, prepare, id=f"{code}-{prepare.__name__}"))
        return prepare

    return note


@pytest.fixture
def case():
    return Case(3, (CARD,), keep=True)


def assert_refused(case, code, party, ask):
    """Ask; see that it is refused by the rule, logged, counted, and not answered."""
    before = {name: (case.entries(name), case.outcomes(name)) for name in case.parties}
    answers = len([r for r in case.service.transcript.records if r.message.kind in ANSWERS])
    with pytest.raises(Refusal) as caught:
        ask()
    error = caught.value
    assert (error.code, error.reason[-1], bool(error.step)) == (code, ".", True), str(error)
    assert error.fix
    assert error.party in ((party,) if party else case.parties)
    for secret in (*case.codes(60), *case.world.strangers[:5]):
        assert secret not in str(error)
    logged, counted = before[error.party]
    new = case.entries(error.party)[len(logged) :]
    assert [e.kind for e in new] == ["refusal"], [e.facts for e in new]
    facts = new[0].facts
    assert (facts["outcome"], facts["institution"]) == (code, BANK)
    assert case.outcomes(error.party).get(code, 0) == counted.get(code, 0) + 1
    after = len([r for r in case.service.transcript.records if r.message.kind in ANSWERS])
    assert after == answers
    return error, new[0]


#: What would carry an answer; a refused verification carries its refusal under the same seal.
ANSWERS = {"scoring.answer", "verify.answer"}


@pytest.mark.parametrize(("code", "party", "prepare"), RULES)
def test_refused(case, code, party, prepare):
    error, entry = assert_refused(case, code, party, prepare(case))
    if entry.facts["target"] == CARD:
        assert entry.subjects == 1
    assert error.code in CODES


# ---------------------------------------------------------------------------------- consents


@rule("consent_missing")
def never_presented(case):
    return lambda: case.ask(consent=f"sha256:{0:064x}")


@rule("consent_malformed")
def no_token(case):
    return lambda: case.ask(consent="once.upon.atime")


@rule("consent_malformed")
def without_a_signature(case):
    (token,) = case.consents(case.codes(1))
    return lambda: case.ask(consent=token.rpartition(".")[0] + ".")


@rule("consent_signature")
def signed_for_something_else(case):
    one, two = (case.consents(case.codes(1))[0] for _ in range(2))
    return lambda: case.ask(consent=f"{one.rpartition('.')[0]}.{two.rpartition('.')[2]}")


@rule("consent_key", "tax")
def key_not_registered(case):
    code = case.codes(1)[0]
    case.register([code], [p for p in case.parties if p != "tax"])
    return lambda: case.ask(consent=case.grant(code))


@rule("consent_key", "social")
def key_revoked(case):
    (token,) = case.consents(case.codes(1))
    case.gate("social").keys.revoke(case.world.enterprise(case.codes(1)[0]).kid, NOW)
    return lambda: case.ask(consent=token)


@rule("consent_key")
def signed_by_another_enterprise(case):
    one, two = case.codes(2)
    case.register([one, two])
    other = case.world.enterprise(two)
    token = type(other)(one, other._key).grant(
        institution=BANK, purpose="credit_granting", scope=[f"score:{CARD}"], now=NOW
    )
    return lambda: case.ask(one, token)


@rule("consent_expired")
def yesterdays(case):
    (token,) = case.consents(case.codes(1), valid_days=1)
    case.clock.now += 2 * DAY
    return lambda: case.ask(consent=token)


@rule("consent_not_yet")
def tomorrows(case):
    (token,) = case.consents(case.codes(1), not_before=NOW + DAY)
    return lambda: case.ask(consent=token)


@rule("consent_revoked", "bureau")
def withdrawn_at_one_party(case):
    (token,) = case.consents(case.codes(1))
    revocation = case.world.enterprise(case.codes(1)[0]).revoke(token, now=NOW)
    case.bank.deliver_revocation(revocation, parties=["bureau"])
    return lambda: case.ask(consent=token)


@rule("consent_used")
def a_second_time(case):
    (token,) = case.consents(case.codes(1))
    case.ask(consent=token)
    return lambda: case.ask(consent=token)


@rule("consent_used")
def a_third_time_by_reference(case):
    references = case.bank.present(case.consents(case.codes(1), max_uses=2))
    for _ in range(2):
        case.ask(consent=references[0])
    return lambda: case.ask(consent=references[0])


@rule("consent_audience")
def another_institutions(case):
    (token,) = case.consents(case.codes(1), institution="leasing")
    return lambda: case.ask(consent=token)


@rule("consent_subject")
def another_enterprises(case):
    tokens = case.consents(case.codes(2))
    return lambda: case.ask(consent=tokens[1])


@rule("consent_purpose")
def given_for_insurance(case):
    (token,) = case.consents(case.codes(1), purpose="insurance")
    return lambda: case.ask(consent=token)


@rule("consent_scope")
def given_for_another_model(case):
    (token,) = case.consents(case.codes(1), TREES)
    return lambda: case.ask(consent=token)


@rule("consent_scope")
def given_without_reasons(case):
    case.register(case.codes(1))
    token = case.grant(case.codes(1)[0], f"score:{CARD}")
    return lambda: case.ask(consent=token, reasons=1)


@rule("consent_scope", "tax")
def given_for_another_predicate(case):
    case.register(case.codes(1))
    token = case.grant(case.codes(1)[0], "verify:tax.declared_zero_months")
    return lambda: case.verify(consent=token, threshold=3)


# ------------------------------------------------------------------------------ institutions


def _institution(case, party, **values):
    with case.gate(party).ledger.transaction() as tx:
        tx.execute(INSTITUTIONS.update().where(INSTITUTIONS.c.name == BANK).values(**values))


@rule("institution_unknown", "tax")
def not_onboarded_there(case):
    with case.gate("tax").ledger.transaction() as tx:
        tx.execute(INSTITUTIONS.delete())
    return case.ask


@rule("institution_suspended", "social")
def suspended_there(case):
    with case.gate("social").ledger.transaction() as tx:
        institutions.suspend(tx, BANK, why="asked too much", by="Li Na", now=NOW)
    return case.ask


@rule("assessment_expired", "bureau")
def assessed_long_ago(case):
    _institution(case, "bureau", assessed=NOW - 9 * DAY, expires=NOW - 1)
    return case.ask


@rule("purpose_denied", "tax")
def admitted_for_another_purpose(case):
    _institution(case, "tax", purposes='["insurance"]')
    return case.ask


@rule("purpose_denied")
def served_for_another_purpose(case):
    (token,) = case.consents(case.codes(1), purpose="insurance")
    return lambda: case.ask(consent=token, purpose="insurance")


# ------------------------------------------------------------------ catalog, changed meanwhile


def _catalog(case, party, field, **changes):
    gate = case.gate(party)
    gate.catalog = changed(gate.catalog, field, **changes)


@rule("field_unknown", "tax")
def field_no_longer_listed(case):
    _catalog(case, "tax", "late_filings_12m")
    return case.ask


@rule("field_denied", "social")
def field_no_longer_shared(case):
    _catalog(case, "social", "insured_staff", sharing="never")
    return case.ask


@rule("field_denied", "bureau")
def field_no_longer_for_scores(case):
    _catalog(case, "bureau", "credit_utilisation", uses=["training"])
    return case.ask


@rule("purpose_denied", "tax")
def field_for_another_purpose(case):
    _catalog(case, "tax", "arrears", purposes=["insurance"])
    return case.ask


@rule("field_denied", "tax")
def field_for_joint_models_only(case):
    _catalog(case, "tax", "late_filings_12m", sharing="joint_modelling_only")
    return lambda: case.verify(threshold=3)


# ------------------------------------------------------------------------------------ budgets


@rule("budget_exhausted", "tax")
def questions_of_a_day(case):
    case.gate("tax").budgets = BudgetRules(questions_per_day=2)
    for code in case.codes(2, start=4):
        case.ask(code)
    return case.ask


@rule("budget_exhausted", "social")
def questions_about_one_enterprise(case):
    case.gate("social").budgets = BudgetRules(per_subject_per_day=2)
    for _ in range(2):
        case.ask()
    return case.ask


@rule("budget_exhausted", "bureau")
def answers_of_a_field(case):
    case.gate("bureau").budgets = BudgetRules(per_field_per_day=1)
    case.ask(case.codes(2)[1])
    return case.ask


@rule("rate_exceeded", "tax")
def questions_of_a_minute(case):
    case.gate("tax").budgets = BudgetRules(per_minute=2)
    for code in case.codes(2, start=4):
        case.ask(code)
    return case.ask


@rule("search_pattern", "tax")
def thresholds_of_one_enterprise(case):
    for threshold in (12, 6):
        case.verify(threshold=threshold)
    return lambda: case.verify(threshold=9)


@rule("scraping_pattern", "social")
def one_code_after_the_other(case):
    case.gate("social").budgets = BudgetRules(max_ordered_questions=3)
    codes = sorted(case.codes(4))
    for code in codes[:3]:
        case.ask(code)
    return lambda: case.ask(codes[3])


def test_a_binary_search_ends_in_a_suspension(case):
    """Of 24 thresholds five questions would do; the third is refused and ends everything."""
    code = case.codes(1)[0]
    late = case.world.tables["tax"]["late_filings_12m"][case.world.rows["tax"][code]]
    low, high, answers = 0, 23, []
    for _ in range(2):
        middle = (low + high) // 2
        answers.append(case.verify(code, threshold=middle).outcome)
        low, high = (low, middle) if answers[-1] == "yes" else (middle + 1, high)
    ask = lambda: case.verify(code, threshold=(low + high) // 2)  # noqa: E731
    assert_refused(case, "search_pattern", "tax", ask)
    assert answers[0] == ("yes" if late <= 11 else "no")
    with case.gate("tax").ledger.reading() as tx:
        assert [a.code for a in list_alarms(tx)] == ["search_pattern"]
    # At that party nothing is answered any more, of whatever kind and about whomever.
    for ask in (lambda: case.verify(case.codes(2)[1], threshold=3), case.ask):
        assert_refused(case, "institution_suspended", "tax", ask)
    with case.gate("tax").ledger.transaction() as tx:
        institutions.release(tx, BANK, why="settled", by="Li Na", now=NOW)
    case.ask(case.codes(3)[2])
    assert_refused(case, "search_pattern", "tax", lambda: case.verify(code, threshold=9))


def test_guessing_codes_suspends(case):
    """Enterprises without a record, far more than honest questions have."""
    gate = case.gate("social")
    gate.budgets = BudgetRules(unknown_from=5, max_unknown_share=0.5)
    strangers = [c for c in case.world.strangers if c not in case.world.rows["social"]][:6]
    case.bank.score_batch(strangers, case.consents(strangers), model=CARD)
    with gate.ledger.reading() as tx:
        assert [a.code for a in list_alarms(tx)] == ["scraping_pattern"]
    assert_refused(case, "institution_suspended", "social", case.ask)


# ------------------------------------------------------------------------- models and requests


def test_a_model_that_nobody_serves(case):
    with pytest.raises(Refusal) as caught:
        case.bank.score(case.codes(1)[0], "x", model="nobodys@1")
    assert (caught.value.code, caught.value.party) == ("model_unknown", PLATFORM)
    SHOWN.add("model_unknown")


@rule("model_unknown")
def withdrawn_meanwhile(case):
    fed, target = case.world.fed, "sme-passing@1"
    fed.deploy(case.world.card, target)
    case.ask(model=target)
    fed.withdraw(target)
    assert target not in [m.target for m in case.bank.models()]
    return lambda: case.ask(model=target)


@rule("model_unknown", "tax")
def lost_by_one_party(case):
    fed, target = case.world.fed, "sme-lost@1"
    fed.deploy(case.world.card, target)
    from fedcredit.models.scoring.served import withdraw_served

    withdraw_served(fed.engines["tax"].store, target)
    return lambda: case.ask(model=target)


def _pretend(case, target, **changes):
    """Let the institution's side believe in another header."""
    header = case.bank._header(target)
    case.bank._headers[CARD] = dataclasses.replace(header, target=CARD, **changes)


@rule("request_invalid")
def a_part_of_the_parties(case):
    _pretend(case, CARD, providers=("tax", "social"))
    return case.ask


@rule("request_invalid")
def the_platform_alone(case):
    _pretend(case, CARD, providers=())
    return case.ask


@rule("model_unknown", "bureau")
def more_parties_than_the_model_has(case):
    case.world.deploy(LITE)
    header = case.bank._header(LITE)
    case.bank._headers[LITE] = dataclasses.replace(header, providers=("bureau", "tax"))
    return lambda: case.ask(model=LITE)


@rule("request_invalid")
def own_features_for_a_model_without(case):
    case.world.deploy(OWN)
    _pretend(case, OWN)
    values = own_values(case, case.codes(1)).iloc[0].to_dict()
    return lambda: case.ask(own=values)


@rule("request_invalid")
def no_own_features_for_a_model_with(case):
    case.world.deploy(OWN)
    header = case.bank._header(OWN)
    case.bank._headers[OWN] = dataclasses.replace(header, own_features=())
    return lambda: case.ask(model=OWN)


@rule("request_invalid")
def too_many_reasons(case):
    return lambda: case.ask(reasons=5)


@rule("request_invalid")
def reasons_of_a_forest(case):
    case.world.deploy(TREES)
    return lambda: case.ask(model=TREES, reasons=1)


@rule("request_invalid", "tax")
def nothing_declared(case):
    return lambda: case.verify(predicate="declared_zero_months", tolerance=0)


@rule("request_invalid", "tax")
def declared_where_nothing_is_compared(case):
    declaration = _declaration(case)
    return lambda: case.verify(declared=declaration, threshold=3)


@rule("threshold_denied", "tax")
def a_threshold_where_none_is(case):
    return lambda: case.verify(predicate="declared_zero_months", threshold=3)


@rule("predicate_unknown", "tax")
def not_on_the_menu(case):
    return lambda: case.verify(predicate="revenue_at_least", threshold=3)


@rule("threshold_denied", "tax")
def between_the_thresholds(case):
    return lambda: case.verify(threshold=2.5)


@rule("threshold_denied", "tax")
def another_tolerance(case):
    declaration = _declaration(case)
    return lambda: case.verify(predicate="declared_zero_months", declared=declaration, tolerance=1)


def _declaration(case, number=0, **changes):
    code = case.codes(number + 1)[number]
    case.register([code])
    settings = {"field": "zero_declaration_months", "value": 1, "now": NOW, "resolution": 1}
    return case.world.enterprise(code).declare(**(settings | changes))


@rule("declaration_invalid", "tax")
def another_enterprises_declaration(case):
    declaration = _declaration(case, 1)
    return lambda: case.verify(predicate="declared_zero_months", declared=declaration, tolerance=0)


@rule("declaration_invalid", "tax")
def declared_in_other_steps(case):
    declaration = _declaration(case, resolution=2)
    return lambda: case.verify(predicate="declared_zero_months", declared=declaration, tolerance=0)


@rule("declaration_invalid", "tax")
def a_typed_value(case):
    return lambda: case.verify(predicate="declared_zero_months", declared=3, tolerance=0)


@rule("declaration_invalid", "tax")
def another_value_than_declared(case):
    """The opening of another declaration: what is encrypted is not what was signed."""
    opening = _declaration(case, value=7).opening("zero_declaration_months")
    value = DeclaredValue(opening.steps, _declaration(case).token, opening.blinding)
    return lambda: case.verify(predicate="declared_zero_months", declared=value, tolerance=0)


def test_a_purpose_that_is_none(case):
    """It is no question, so it has no line in the usage table; that it came is logged."""
    (token,) = case.consents(case.codes(1))
    with pytest.raises(Refusal) as caught:
        case.ask(consent=token, purpose="marketing")
    assert caught.value.code == "purpose_denied"
    (entry,) = case.entries(caught.value.party, "refusal")
    assert entry.facts["outcome"] == "purpose_denied"


# -------------------------------------------------------------- in the protocol or a party's own


def test_a_request_that_came_before(case):
    """The same request at one gate, although its consent has uses left."""
    (token,) = case.consents(case.codes(1), max_uses=5)
    question = Question(
        BANK, "credit_granting", "score", CARD, (), tuple(case.codes(1)), (token,), bytes(32)
    )
    gate = case.gate("tax")
    gate.admit(question)
    with pytest.raises(Refusal) as caught:
        gate.admit(question)
    assert caught.value.code == "request_repeated"
    gate.admit(dataclasses.replace(question, request=bytes(31) + b"1"))
    assert case.outcomes("tax") == {"admitted": 2, "request_repeated": 1}
    SHOWN.add("request_repeated")


@rule("part_failed", "tax")
def a_column_is_gone(case):
    """The party was started with another table than the model was deployed with."""
    index = case.desks["tax"].index
    index._frame = index._frame.rename(columns={"arrears": "debts"})
    return case.ask


def test_a_share_of_another_shape(case, monkeypatch):
    """A provider that gives two words where one is due."""
    make = scoring.party_share

    def two(keys, encryptor, request, digest, given):
        if keys.me == "tax":
            given = dataclasses.replace(given, words=np.repeat(given.words, 2, axis=1))
        return make(keys, encryptor, request, digest, given)

    monkeypatch.setattr(scoring, "party_share", two)
    with pytest.raises(Refusal) as caught:
        case.ask()
    assert (caught.value.code, caught.value.party) == ("share_invalid", "tax")
    monkeypatch.undo()
    case.ask(case.codes(2)[1])
    SHOWN.add("share_invalid")


@pytest.mark.parametrize("party", [PLATFORM, "tax", "social"])
def test_a_refusal_costs_no_consent(case, party):
    """Whoever refuses, the others give back what they had already counted as a use."""
    code = case.codes(1)[0]
    (token,) = case.consents([code])
    with case.gate(party).ledger.transaction() as tx:
        institutions.suspend(tx, BANK, why="asked too much", by="Li Na", now=NOW)
    assert_refused(case, "institution_suspended", party, lambda: case.ask(code, token))
    with case.gate(party).ledger.transaction() as tx:
        institutions.release(tx, BANK, why="settled", by="Li Na", now=NOW)
    assert case.ask(code, token).score
    with pytest.raises(Refusal) as caught:
        case.ask(code, token)
    assert caught.value.code == "consent_used"


# ---------------------------------------------------------------------------- a party is away


def test_a_party_is_away(case):
    case.world.deploy(CAREFUL)
    case.service.away.add("social")
    code = case.codes(1)[0]
    (token,) = case.consents([code], CARD, CAREFUL, LITE, max_uses=9)
    for model, hint in ((CARD, False), (CAREFUL, True)):
        with pytest.raises(Refusal, match="social cannot be reached") as caught:
            case.bank.score(code, token, model=model)
        assert (caught.value.code, caught.value.party) == ("party_missing", "social")
        assert ("fallback" in caught.value.fix) == hint
    # Without one to fall back on, allowing it does not help.
    with pytest.raises(Refusal) as caught:
        case.bank.score(code, token, model=CARD, allow_fallback=True)
    assert caught.value.code == "party_missing"
    with pytest.raises(Refusal) as caught:
        case.bank.verify(code, token, provider="social", predicate="any", threshold=1)
    assert (caught.value.code, caught.value.party) == ("party_missing", "social")
    assert not any(case.answered(name) for name in case.parties)
    SHOWN.add("party_missing")


def test_the_fallback_is_flagged(case):
    case.world.deploy(CAREFUL)
    case.service.away.add("social")
    codes = case.codes(20)
    tokens = case.consents(codes, LITE)
    batch = case.bank.score_batch(codes, tokens, model=CAREFUL, allow_fallback=True)
    assert (batch.fallback, batch.missing, batch.header.target) == (True, ("social",), LITE)
    assert batch.to_frame()["fallback"].all()
    result = batch[0]
    assert (result.fallback, result.missing, result.model) == (True, ("social",), LITE)
    assert result.to_dict()["fallback"] is True
    assert set(result.receipt.statements) == {PLATFORM, "tax"}
    want = case.world.lite.decision_function(case.world.frame.take(np.arange(20)))
    assert np.abs(batch.scores - want).max() < 1e-6
    # A consent for the model that was asked for covers no other.
    with pytest.raises(Refusal) as caught:
        case.bank.score(
            codes[0], case.consents(codes[:1], CAREFUL)[0], model=CAREFUL, allow_fallback=True
        )
    assert caught.value.code == "consent_scope"
    # The party is back: no fallback although it is allowed.
    case.service.away.clear()
    back = case.ask(model=CAREFUL, allow_fallback=True)
    assert (back.fallback, back.missing, back.model) == (False, (), CAREFUL)


# ------------------------------------------------------------------------------------- all codes

#: Codes of other occasions: jobs of the platform, logs that cannot be written (tested elsewhere),
#: and what a party reports of itself.
ELSEWHERE = {
    "aggregation_too_small",
    "declined_elsewhere",
    "grain_denied",
    "log_failed",
    "model_withdrawn",
}


def test_every_code_is_shown():
    assert not SHOWN & ELSEWHERE
    assert set(CODES) == SHOWN | ELSEWHERE
