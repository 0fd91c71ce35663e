"""Sessions of an institution and jobs of the platform witness the audit logs of all parties."""

import pytest

import fedcredit as fc
from fedcredit.errors import ConfigError, StorageError
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.evidence import verify_bundle
from fedcredit.governance.gate import Gate
from fedcredit.governance.ledger import Ledger
from fedcredit.governance.schema import (
    AUDIT_ENTRIES,
    AUDIT_NODES,
    AUDIT_OPENINGS,
    CHECKPOINTS,
    METADATA,
)
from fedcredit.governance.witnessing import witnessed_sizes
from fedcredit.models.scoring.institution import Institution
from tests.support.service import BANK, PLATFORM, Case, generous

TAX = "tax"


@pytest.fixture
def case():
    return Case(providers=2, budgets=generous(), keep=True)


def copy_of(ledger):
    """The whole database as it is now, as a backup holds it."""
    copy = Ledger("sqlite://", party=ledger.party)
    with ledger.reading() as source, copy.transaction() as tx:
        for table in METADATA.sorted_tables:
            rows = [dict(row._mapping) for row in source.execute(table.select())]
            tx.execute(table.delete())
            if rows:
                tx.execute(table.insert(), rows)
    return copy


def replace_database(case, party, ledger):
    """Put another database behind a party's gate, as whoever controls its disk can."""
    desk = case.desks[party]
    old = desk.gate
    log = AuditLog(ledger, case.service.identities[party])
    desk.gate = Gate(ledger, old.catalog, log, party=party, clock=case.clock, budgets=old.budgets)


def new_session(case):
    case.bank._talks.close()


def cut(ledger, size, *, checkpoints=True):
    """Delete the newest entries, and the checkpoints that count them."""
    with ledger.transaction() as tx:
        for table in (AUDIT_ENTRIES, AUDIT_OPENINGS):
            tx.execute(table.delete().where(table.c.number >= size))
        nodes = AUDIT_NODES.c
        for level in range(40):
            at = (nodes.level == level) & (nodes.position >= size >> level)
            tx.execute(AUDIT_NODES.delete().where(at))
        if checkpoints:
            own = CHECKPOINTS.c.origin == f"{ledger.party}/fedcredit-audit"
            tx.execute(CHECKPOINTS.delete().where(own & (CHECKPOINTS.c.size > size)))


def sizes(case):
    return {party: len(case.entries(party)) for party in case.parties}


def rounds(case):
    return sum(r.message.kind == "checkpoint.round" for r in case.service.transcript.records)


def refusals(case, party):
    return [e.facts["log"] for e in case.entries(party, "witness_refused")]


def test_a_session_begins_with_an_exchange_among_all(case):
    case.ask()
    case.ask(case.codes(2)[1])
    before = sizes(case)
    new_session(case)
    case.ask(case.codes(3)[2])
    for party in case.parties:
        others = {BANK, *case.parties} - {party}
        seen = witnessed_sizes(case.gate(party).log)
        assert seen == dict.fromkeys(sorted(others), before[party])
        assert case.bank.witnessed(party) == before[party] > 1
        assert case.gate(party).log.verify().ok
    assert case.bank.log_alarms == {}
    assert rounds(case) == 0


def test_every_so_many_questions_the_members_exchange_again(case):
    bank = Institution(case.bank._connection, clock=case.clock, witness_every=3)
    codes = case.codes(9)
    case.register(codes)
    for number, code in enumerate(codes):
        told = rounds(case)
        exchanged = sum(
            r.message.kind.startswith("checkpoint.") for r in case.service.transcript.records
        )
        bank.score(code, case.grant(code), model="sme-card@1")
        more = sum(
            r.message.kind.startswith("checkpoint.") for r in case.service.transcript.records
        )
        if number == 0:  # the sessions begin: with the platform for the model, then with all
            continue
        again = number % 3 == 0
        assert rounds(case) - told == (len(case.parties) if again else 0), number
        assert (more > exchanged) == again
        if again:
            # All but the question that waits, which is the entry after it.
            assert bank.witnessed(TAX) == len(case.entries(TAX)) - 1
    bank.close()


def test_an_older_copy_of_a_database_is_found_out_every_time(case):
    case.ask()
    backup = copy_of(case.gate(TAX).ledger)
    case.ask(case.codes(2)[1])
    new_session(case)
    case.ask(case.codes(3)[2])  # the bank and the others have now witnessed what came after
    assert case.bank.log_alarms == {}
    replace_database(case, TAX, backup)
    for times in (1, 2, 3):
        new_session(case)
        # The service goes on; whose word is good for what is for the institution to decide.
        assert case.ask(case.codes(4 + times)[-1]).score > 0
        assert set(case.bank.log_alarms) == {TAX}
        for party in case.parties:
            assert refusals(case, party) == ([] if party == TAX else [TAX] * times)
            assert case.gate(party).log.verify().failed == (() if party == TAX else ("others",))


def test_a_log_that_was_rewritten_is_found_out(case, caplog):
    case.ask()
    case.ask(case.codes(2)[1])
    new_session(case)
    case.ask(case.codes(3)[2])
    ledger = case.gate(TAX).ledger
    cut(ledger, len(case.entries(TAX)) - 2)
    for _ in range(5):
        case.gate(TAX).note("alignment", {"outcome": "accepted"})
    new_session(case)
    case.ask(case.codes(4)[3])
    assert "does not continue the history" in case.bank.log_alarms[TAX]
    assert refusals(case, PLATFORM) == [TAX]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("audit log of tax is not to be relied on" in text for text in told)  # the bank
    assert any("platform refuses this log" in text for text in told)  # tax itself
    assert any("audit log of tax is refused" in text for text in told)  # the others


def test_a_log_shorter_than_its_own_checkpoint_answers_nobody(case):
    case.ask()
    case.ask(case.codes(2)[1])
    new_session(case)
    case.ask(case.codes(3)[2])
    cut(case.gate(TAX).ledger, 1, checkpoints=False)
    new_session(case)
    before = {party: case.answered(party) for party in case.parties}
    with pytest.raises(StorageError, match="does not continue its last checkpoint") as caught:
        case.ask(case.codes(4)[3])
    assert caught.value.party == TAX
    assert {party: case.answered(party) for party in case.parties} == before


def test_an_institution_remembers_over_its_restarts(case, tmp_path):
    url, connection = f"sqlite:///{tmp_path}/bank.db", case.bank._connection
    codes = case.codes(4)
    case.register(codes)

    def ask(code, url=url):
        ledger = Ledger(url, party=BANK)
        with Institution(connection, clock=case.clock, ledger=ledger) as bank:
            bank.score(code, case.grant(code), model="sme-card@1")
            return bank.log_alarms

    backups = {party: copy_of(case.gate(party).ledger) for party in case.parties}
    assert ask(codes[0]) == {}
    assert ask(codes[1]) == {}
    # Everybody rolls back together: the institution alone is left to notice.
    for party, backup in backups.items():
        with backup.transaction() as tx:
            tx.execute(CHECKPOINTS.delete())
        replace_database(case, party, backup)
    assert set(ask(codes[2])) == set(case.parties)
    # One that comes for the first time cannot know.
    assert ask(codes[3], "sqlite://") == {}


def test_a_newcomer_is_told_by_the_other_parties(case):
    case.ask()
    backup = copy_of(case.gate(TAX).ledger)
    case.ask(case.codes(2)[1])
    new_session(case)
    case.ask(case.codes(3)[2])
    replace_database(case, TAX, backup)
    fund = case.service.accede("fund")
    code = case.codes(4)[3]
    case.register([code])
    fund.score(code, case.grant(code, institution="fund"), model="sme-card@1")
    assert fund.log_alarms == {TAX: "platform refuses the audit log of tax."}


def test_the_platform_exchanges_with_its_providers(case):
    fed = case.world.fed
    case.ask()
    done = fed.exchange_checkpoints()
    assert set(done.witnessed) == set(done.cosigned) == set(case.world.providers)
    assert done.size == len(case.entries(PLATFORM))
    assert (done.refused, done.refused_by) == ({}, {})
    assert done.reports == dict.fromkeys(case.world.providers, ())
    for party in case.parties:
        seen = witnessed_sizes(case.gate(party).log)
        now = len(case.entries(party))
        assert {seen[other] for other in case.parties if other != party} == {now}
    backup = copy_of(case.gate(TAX).ledger)
    case.gate(TAX).note("alignment", {"outcome": "accepted"})
    assert fed.exchange_checkpoints(providers=[TAX]).reports == {TAX: ()}
    replace_database(case, TAX, backup)
    done = fed.exchange_checkpoints()
    assert set(done.refused) == {TAX}
    assert f"now shows {len(case.entries(TAX))}" in done.refused[TAX]
    # The other provider has not seen the entry that is gone: to it, this is the same log.
    assert done.reports == dict.fromkeys(case.world.providers, ())


def test_without_logs_there_is_nothing_to_exchange():
    table = fc.datasets.make_sme_population(200, seed=1)
    fed = fc.simulate(platform=table.platform, tax=table.tax)
    with pytest.raises(ConfigError, match="no audit log"):
        fed.exchange_checkpoints()


def test_evidence_bears_the_cosignatures_of_bank_and_parties(case):
    case.ask()
    entry = len(case.entries(TAX)) - 1
    for number in (1, 2):
        new_session(case)
        case.ask(case.codes(1 + number)[-1])
    bundle = case.gate(TAX).log.export(entry, now=case.clock() + 1)
    keys = {name: who.public_key for name, who in case.service.identities.items()}
    keys[BANK] = case.bank._connection.identity.public_key
    report = verify_bundle(bundle, keys=keys)
    assert report.ok, report
    texts = [check.text for check in report.checks if check.name == "copy"]
    assert any("which had the entry already" in text for text in texts)
    for name in (BANK, PLATFORM, *case.world.providers):
        found = any(f"cosigned by {name}" in text for text in texts)
        assert found == (name != TAX)
