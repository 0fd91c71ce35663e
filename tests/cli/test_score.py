"""``fedcredit score`` and ``fedcredit verify`` as people type them, against running nodes."""

from __future__ import annotations

import csv
import json
import logging
import time

import numpy as np
import pytest
from click.testing import CliRunner

import fedcredit as fc
from fedcredit.cli.main import cli
from fedcredit.governance import institutions
from fedcredit.governance.enterprise import Enterprise
from fedcredit.governance.keys import KeyRegistry
from fedcredit.governance.ledger import Ledger
from fedcredit.models.scoring.receipts import Receipt
from fedcredit.node.config import load_config
from fedcredit.uscc import normalise
from tests.support.site import PLATFORM, make_site

BANK, CARD, LITE, OWN = "bank", "sme-card@1", "sme-lite@1", "sme-own@1"
DAY = 86_400.0
FIELD = "late_filings_12m"
PREDICATE = """
[[fields.late_filings_12m.predicates]]
id = "filed_late_at_most"
text = "at most {threshold} filings were late"
operator = "<="
thresholds = [0, 2, 4]
"""


def run(*arguments, code=0):
    """Run a command in this process; its code is checked, and that it tells no internals."""
    logger = logging.getLogger("fedcredit")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        words = [str(a) for a in arguments]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, words, prog_name="fedcredit")
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    return result


class Served:
    """A running site with models, onboarded institutions and enterprises that consent."""

    def __init__(self, site, directory):
        self.site, self.directory = site, directory

    def config(self, party):
        return self.site.config(party)

    def file(self, name):
        return self.directory / name

    def allow_predicate(self):
        """Put a question on the tax office's menu, as its steward edits the catalog."""
        path = self.config("tax").with_name("catalog.toml")
        head, mark, rest = path.read_text().partition(f'[fields."{FIELD}"]')
        assert mark
        rest = rest.replace('"scoring"]', '"scoring", "verification"]', 1)
        path.write_text(head + mark + rest + PREDICATE)

    def prepare(self):
        with self.site.connect() as federation:
            frame = federation.align()
            own = ["region", "registration_years"]
            shared = [name for name in frame.columns if "." in name]
            wanted = list(own)
            for provider in self.site.providers:
                wanted += [name for name in shared if name.startswith(f"{provider}.")][:2]
            self.card = fc.VerticalScorecard(
                binner={"max_bins": 4, "prebins": 8},
                features=wanted,
                selector=dict.fromkeys(("min_iv", "max_missing", "max_correlation", "max_vif")),
                sign_constraints=None,
                polish_steps=0,
            ).fit(frame, self.site.data.label)
            self.card.save(self.file("card.fed"))
            lite = fc.VerticalGBDTClassifier(n_estimators=2, max_depth=2, features=own)
            lite.fit(frame, self.site.data.label).save(self.file("lite.fed"))
            self.codes = [code.decode() for code in normalise(frame.ids[:60].tolist()).ids]
            self.points = self.card.points(frame.take(np.arange(60))).to_numpy()
        self.enterprises = [Enterprise.generate(code) for code in self.codes]
        for party in (PLATFORM, *self.site.providers):
            ledger = Ledger(load_config(self.config(party)).database, party=party)
            now = time.time()
            with ledger.transaction() as tx:
                for one in self.enterprises:
                    KeyRegistry(ledger, party).add(
                        "subject", one.uscc, one.public_key, now - DAY, tx=tx
                    )
                institutions.onboard(
                    tx,
                    BANK,
                    assessment="A-1",
                    assessed=now - DAY,
                    expires=now + DAY,
                    purposes=["credit_granting"],
                    now=now,
                )
            ledger.close()

    def value(self, party, code, column):
        """What a party's table says about an enterprise."""
        table = self.site.data.parties[party]
        report = normalise(table[self.site.data.key].tolist())
        (row,) = report.rows[report.ids == code.encode()]
        return table[column].iloc[row]

    def consent(self, number, *scope, **changes):
        """A file with an enterprise's consent."""
        settings = {"institution": BANK, "purpose": "credit_granting", "max_uses": 9}
        scope = list(scope) or [f"score:{CARD}", f"score:{LITE}", f"score:{OWN}", "reasons"]
        path = self.file(f"consent{number}.jwt")
        path.write_text(self.enterprises[number].grant(scope=scope, **(settings | changes)))
        return path

    def request(self, *arguments, model=CARD, code=0):
        return run("score", "request", self.config(BANK), "--model", model, *arguments, code=code)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("service")
    site = make_site(directory, rows=600, institutions=(BANK,))
    served = Served(site, directory)
    served.allow_predicate()
    with site.run(serve=True):
        served.prepare()
        run(
            *("score", "deploy", served.config(PLATFORM), "--model", served.file("card.fed")),
            *("--as", CARD, "--band", "C=-inf", "--band", "B=580", "--band", "A=620"),
        )
        yield served


def test_deploying_withdrawing_and_listing(served):
    platform, bank = served.config(PLATFORM), served.config(BANK)
    words = ("score", "deploy", platform, "--model", served.file("lite.fed"), "--as", LITE)
    told = json.loads(run(*words, "--json").stdout)
    assert (told["target"], told["kind"], told["parties"]) == (LITE, "trees", [PLATFORM])
    listed = json.loads(run("score", "models", bank, "--json").stdout)
    assert [m["target"] for m in listed] == [CARD, LITE]
    assert listed[0]["parties"] == [PLATFORM, *served.site.providers]
    assert listed[0]["bands"] == {"C": -np.inf, "B": 580.0, "A": 620.0}
    text = run("score", "models", bank).stdout
    for part in (CARD, LITE, "card", "trees", "B≥580", "credit_granting"):
        assert part in text
    # A version is taken for good; withdrawn models are gone at all parties.
    error = run(*words[:-1], CARD, code=2).stderr
    assert "another model is served" in error
    assert "new version" in error
    assert f"{LITE} is no longer served" in run("score", "withdraw", platform, LITE).stdout
    assert [m["target"] for m in json.loads(run("score", "models", bank, "--json").stdout)] == [
        CARD
    ]
    error = served.request(
        "--subject", served.codes[0], "--consent", served.consent(0), model=LITE, code=3
    ).stderr
    assert "model_unknown" in error
    assert "model_unknown" in run("score", "withdraw", platform, LITE, code=3).stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--as", "no version"], "name@version"),
        (["--as", "x@1", "--purpose", "marketing"], "purpose"),
        (["--as", "x@1", "--band", "A"], "NAME=LOWEST"),
        (["--as", "x@1", "--band", "A=3", "--band", "B=2"], "rise"),
        (["--as", "x@1", "--fallback", "gone@1"], "not served"),
        (["--as", "x@1", "--own-feature", "shoe_size"], "shoe_size"),
    ],
    ids=str,
)
def test_what_cannot_be_deployed(served, words, part):
    platform = served.config(PLATFORM)
    logger = ("score", "deploy", platform, "--model", served.file("card.fed"), *words)
    code = 3 if part in ("purpose", "not served") else 2
    result = run(*logger, code=code)
    assert part in result.stderr
    assert result.stdout == ""
    run("score", "deploy", platform, "--model", served.file("none"), "--as", "x@1", code=2)
    listed = json.loads(run("score", "models", served.config(BANK), "--json").stdout)
    assert "x@1" not in [m["target"] for m in listed]


def checked(path, served, parties):
    """Check a paper as a supervisor does, and that an edited one is refused."""
    ca = served.site.directory / "ca" / "ca.pem"
    assert "every signature checks" in run("score", "check", path, "--ca", ca).stdout
    found = json.loads(run("score", "check", path, "--ca", ca, "--json").stdout)["statements"]
    assert set(found) == parties
    forged, text = path.with_name("forged.json"), path.read_text()
    paper = json.loads(text)
    statements = paper.get("statements")
    if statements is None:
        paper["evidence"]["signature"] = paper["evidence"]["signature"][::-1]
    else:
        statements["tax"] = statements["tax"].replace("credit_granting", "insurance")
    forged.write_text(json.dumps(paper))
    run("score", "check", forged, "--ca", ca, code=5 if statements else 2)
    forged.write_text("[]")
    run("score", "check", forged, "--ca", ca, code=2)
    return found


def test_one_enterprise(served):
    words = ("--subject", served.codes[1], "--consent", served.consent(1))
    receipt = served.file("receipt.json")
    result = served.request(*words, "--reasons", 2, "--receipt", receipt)
    for part in (served.codes[1], f"{served.points[1]:.0f}", CARD, "signed by platform"):
        assert part in result.stdout
    plain = json.loads(served.request(*words, "--json", "--reasons", 2).stdout)
    assert [one["score"] for one in plain] == [served.points[1]]
    assert plain[0]["reasons"]
    assert served.request(*words, "--mode", "masked").stdout
    # The consent's token itself will do as well.
    token = served.consent(1).read_text()
    served.request("--subject", served.codes[1], "--consent", token)
    read = Receipt.from_json(receipt.read_text())
    trust = load_config(served.config(BANK)).load_signing().trust
    keys = {p: trust.verify_signing(p, der) for p, der in read.certificates.items()}
    assert set(read.verify(keys)) == {PLATFORM, *served.site.providers}
    checked(receipt, served, {PLATFORM, *served.site.providers})
    assert served.codes[1] not in receipt.read_text()


def test_a_batch(served):
    numbers = range(2, 30)
    path, out = served.file("portfolio.csv"), served.file("scores.csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uscc", "consent"])
        for i in numbers:
            writer.writerow([served.codes[i], served.consent(i).name])
    served.request("--batch", path, "--out", out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == served.points[2:30].tolist()
    assert {row["band"] for row in rows} <= {"A", "B", "C"}
    assert [row["fallback"] for row in rows] == ["False"] * 28


def test_features_of_the_institution(served):
    platform = served.config(PLATFORM)
    words = ("score", "deploy", platform, "--model", served.file("card.fed"), "--as", OWN)
    run(*words, "--own-feature", "registration_years")
    words = ("--subject", served.codes[40], "--consent", served.consent(40))
    years = served.value(PLATFORM, served.codes[40], "registration_years")
    given = served.request(
        *words, "--own", f"registration_years={years}", "--json", model=OWN
    ).stdout
    assert json.loads(given)[0]["score"] == served.points[40]
    error = served.request(*words, model=OWN, code=2).stderr
    assert "registration_years" in error
    assert "is not NAME=VALUE" in served.request(*words, "--own", "x", model=OWN, code=2).stderr


def test_refusals_say_who_and_by_which_rule(served):
    subject = served.codes[50]
    words = ("--subject", subject, "--consent")
    spent = served.consent(50, max_uses=1).read_text()
    served.request(*words, spent)
    for token, code in (
        (spent, "consent_used"),
        (served.consent(51).read_text(), "consent_subject"),
        (served.consent(50, institution="leasing").read_text(), "consent_audience"),
        (served.consent(50, f"score:{LITE}").read_text(), "consent_scope"),
        (served.consent(50, purpose="insurance").read_text(), "consent_purpose"),
        ("a.b.c", "consent_malformed"),
        (f"sha256:{0:064x}", "consent_missing"),
    ):
        result = served.request(*words, token, code=3)
        assert code in result.stderr
        assert "[party " in result.stderr
        assert "Fix:" in result.stderr
        for secret in (subject, token):
            assert secret not in result.stderr
        assert result.stdout == ""
    log = run("usage", served.config("tax")).stdout
    assert BANK in log


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "--batch"),
        (["--subject", "91310115MAPGK2X01W"], "--batch"),
        (["--subject", "91310115MAPGK2X01W", "--consent", "nowhere.jwt"], "cannot be read"),
        (["--subject", "nonsense", "--consent", "a.b.c"], "no codes"),
        (["--batch", "nowhere.csv"], "cannot be read"),
        (["--subject", "x", "--consent", "a.b.c", "--reasons", "9"], "--reasons"),
        (["--subject", "x", "--consent", "a.b.c", "--out", "no/where/x.csv"], "--out"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(served, words, part):
    result = served.request(*words, code=2)
    assert part in result.stderr
    assert "nonsense" not in result.stderr.replace("'nonsense'", "")


@pytest.mark.parametrize("text", ["", "uscc\nx\n", "uscc,consent\n", "\0\xff"])
def test_batches_that_are_none(served, text):
    path = served.file("none.csv")
    path.write_text(text)
    result = served.request("--batch", path, code=2)
    assert "Fix:" in result.stderr


def test_only_an_institution_asks(served):
    words = ("--subject", served.codes[0], "--consent", "a.b.c", "--model", CARD)
    for party in (PLATFORM, "tax"):
        run("score", "request", served.config(party), *words, code=2)
        run("score", "models", served.config(party), code=2)
    run("score", "withdraw", served.config(BANK), CARD, code=2)


def test_verifying(served):
    code = served.codes[55]
    consent = served.consent(55, "verify:tax.filed_late_at_most")
    words = (
        *("verify", served.config(BANK), "--subject", code, "--consent", consent),
        *("--provider", "tax", "--predicate", "filed_late_at_most"),
    )
    want = "yes" if served.value("tax", code, FIELD) <= 2 else "no"
    out = served.file("answer.json")
    told = run(*words, "--threshold", 2, "--out", out).stdout
    assert told.startswith(f"{want.replace('_', ' ')}: at most 2 filings were late")
    assert "signed by tax" in told
    plain = json.loads(out.read_text())
    assert (plain["outcome"], plain["subject"]) == (want, code)
    assert plain["evidence"]["signature"]
    stated = checked(out, served, {"tax"})["tax"]
    assert (stated["outcome"], stated["predicate"]) == (want, "tax.filed_late_at_most")
    assert json.loads(run(*words, "--threshold", 2, "--json").stdout)["outcome"] == want
    result = run(*words, "--threshold", 3, code=3)
    assert "threshold_denied" in result.stderr
    assert code not in result.stderr
    result = run(*words[:-1], "shoe_size", "--threshold", 3, code=3)
    assert "predicate_unknown" in result.stderr
    words = ("--subject", code, "--consent", consent, "--predicate", "filed_late_at_most")
    for provider in ("nobody", "social_security"):
        result = run("verify", served.config(BANK), *words, "--provider", provider, code=3)
        assert provider in result.stderr
