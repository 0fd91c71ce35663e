"""Questions that a rule refuses, one per rule: what is asked, the code, and who says so."""

from __future__ import annotations

import dataclasses

import pytest

from fedcredit.governance import institutions
from fedcredit.governance.budgets import BudgetRules
from fedcredit.governance.schema import INSTITUTIONS
from fedcredit.protocols.verification import DeclaredValue
from tests.support.service import (
    BANK,
    CARD,
    DAY,
    LITE,
    NOW,
    OWN,
    TREES,
    changed,
    own_values,
)

#: Code of every rule that is shown here; a test holds it to the list of codes.
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


@rule("part_failed", "tax")
def a_column_is_gone(case):
    """The party was started with another table than the model was deployed with."""
    index = case.desks["tax"].index
    index._frame = index._frame.rename(columns={"arrears": "debts"})
    return case.ask
