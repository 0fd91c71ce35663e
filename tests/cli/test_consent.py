"""``fedcredit consent`` and ``fedcredit registry``, from the key to the withdrawal."""

import json
import stat

import click
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from fedcredit.cli.consent import consent
from fedcredit.cli.failures import report_failures
from fedcredit.cli.main import cli
from fedcredit.cli.registry import registry
from fedcredit.governance.declaration import Declaration
from fedcredit.governance.enterprise import Enterprise
from tests.support.consents import SCORE, taken_apart

# Two codes of real form: body and check character by GB 32100-2015.
SUBJECT, OTHER = "91440300MA5000001K", "91440300MA5000002N"


class Root(click.Group):
    """The commands under test, with the command line's handling of failures."""

    def invoke(self, ctx):
        with report_failures(ctx, debug=False):
            return super().invoke(ctx)


ROOT = Root("fedcredit", commands={"consent": consent, "registry": registry})


def run(*arguments, code=0, typed=None):
    words = [str(word) for word in arguments]
    result = CliRunner(env={"COLUMNS": "300"}).invoke(ROOT, words, input=typed)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def fail(*arguments, code=2, typed=None):
    result = run(*arguments, code=code, typed=typed)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def key(tmp_path):
    run("consent", "keygen", "--subject", SUBJECT, "--out", tmp_path / "e.pem", "--no-passphrase")
    return tmp_path / "e.pem"


@pytest.fixture
def config(tmp_path):
    """The configuration of a party, as ``fedcredit init`` writes it."""
    for name, column in (("loans", "default"), ("tax", "paid")):
        table = pa.table({"uscc": ["a", "b"], column: [0, 1]})
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
    words = ["init", tmp_path / "pilot", "--platform", tmp_path / "loans.parquet"]
    words += ["--label", "default", "--provider", f"tax={tmp_path / 'tax.parquet'}"]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return tmp_path / "pilot" / "tax" / "tax.toml"


def grant(key, out, *more):
    words = ["--institution", "bank", "--purpose", "credit_granting", "--scope", SCORE]
    run("consent", "grant", "--key", key, *words, "--out", out, *more)
    return out


def register(config, key):
    words = ["--subject", SUBJECT, "--key", key.with_suffix(".pub.pem"), "--json"]
    return json.loads(run("registry", "add", config, *words).stdout)["key"]


def inspect(*arguments, code=0):
    return json.loads(run("consent", "inspect", *arguments, "--json", code=code).stdout)


def test_keygen(tmp_path):
    out = tmp_path / "e.pem"
    words = ["consent", "keygen", "--subject", SUBJECT.lower(), "--out", out]
    result = run(*words, typed="my words\nmy words\n")
    kid = Enterprise.load(out, "my words").kid
    assert kid in result.stdout
    assert "my words" not in result.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert b"PRIVATE" not in (tmp_path / "e.pub.pem").read_bytes()
    assert "there already" in fail(*words, "--no-passphrase")
    (tmp_path / "e.pub.pem").unlink()
    assert "cannot be used" in fail(*words, "--no-passphrase")
    assert Enterprise.load(out, "my words").kid == kid
    assert "no unified social credit code" in fail(
        *("consent", "keygen", "--subject", "x", "--out", tmp_path / "x.pem", "--no-passphrase")
    )


def test_a_mistyped_code_is_pointed_out(tmp_path):
    words = ["consent", "keygen", "--out", tmp_path / "e.pem", "--no-passphrase", "--subject"]
    result = run(*words, "91440300MA5000001L")
    assert "check character" in result.stderr


def test_passphrases(tmp_path):
    words = tmp_path / "words"
    words.write_text("secret words\n")
    out = tmp_path / "e.pem"
    run("consent", "keygen", "--subject", SUBJECT, "--out", out, "--passphrase-file", words)
    grant(out, tmp_path / "c.jwt", "--passphrase-file", words)
    asked = ["--institution", "bank", "--purpose", "guarantee", "--scope", SCORE]
    token = run("consent", "grant", "--key", out, *asked, typed="secret words\n").stdout
    assert taken_apart(token.strip())[1]["purpose"] == "guarantee"
    said = fail("consent", "grant", "--key", out, *asked, typed="other words\n")
    assert "passphrase is missing or wrong" in said
    assert "other words" not in said


def test_grant_and_inspect(tmp_path, key):
    path = grant(key, tmp_path / "c.jwt", "--scope", "reasons", "--max-uses", 3)
    token = path.read_text().strip()
    facts = inspect(path)
    assert facts == inspect(token)
    assert (facts["kind"], facts["subject"], facts["institution"]) == ("consent", SUBJECT, "bank")
    assert (facts["scope"], facts["max uses"]) == ([SCORE, "reasons"], 3)
    assert (facts["state"], facts["signature"]) == ("valid", "not checked")
    assert inspect(path, "--key", tmp_path / "e.pub.pem")["signature"] == "checks"
    run(
        *("consent", "keygen", "--subject", OTHER, "--out", tmp_path / "o.pem"),
        *("--no-passphrase",),
    )
    said = inspect(path, "--key", tmp_path / "o.pub.pem", code=3)
    assert said["signature"] == "does not check"
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}"
    assert inspect(forged, "--key", tmp_path / "e.pub.pem", code=3)["signature"] == "does not check"
    assert "purpose:     credit_granting" in run("consent", "inspect", path).stdout


def test_what_cannot_be_granted_or_read(tmp_path, key):
    asked = ["--institution", "bank", "--purpose", "guarantee", "--scope"]
    assert "scope" in fail("consent", "grant", "--key", key, *asked, "score:*")
    assert "Invalid value" in fail(
        "consent", "grant", "--key", key, "--institution", "b", "--purpose", "ads", "--scope", SCORE
    )
    for wrong in (key, "a.b.c", tmp_path / "none"):
        said = fail("consent", "inspect", wrong, code=2 if wrong == tmp_path / "none" else 3)
        assert "PRIVATE" not in said
    (tmp_path / "x.json").write_text("{}")
    assert "holds no token" in fail("consent", "inspect", tmp_path / "x.json")
    assert "no private key" in fail(
        "consent", "grant", "--key", tmp_path / "e.pub.pem", *asked, SCORE
    )


def test_registry(tmp_path, key, config):
    kid = register(config, key)
    listed = json.loads(run("registry", "list", config, "--json").stdout)
    assert [(one["kid"], one["owner"], one["status"]) for one in listed] == [
        (kid, SUBJECT, "active")
    ]
    words = ["--subject", SUBJECT, "--key", key.with_suffix(".pub.pem")]
    assert "known already" in fail("registry", "add", config, *words)
    assert "either" in fail("registry", "add", config, *words, "--institution", "bank")
    assert "no public key" in fail("registry", "add", config, "--subject", SUBJECT, "--key", key)
    certificate = config.parent / "signing.pem"
    run("registry", "add", config, "--institution", "tax", "--key", certificate)
    run("consent", "keygen", "--subject", SUBJECT, "--out", tmp_path / "n.pem", "--no-passphrase")
    new = run("registry", "rotate", config, kid, "--key", tmp_path / "n.pub.pem", "--json").stdout
    run("registry", "revoke", config, kid)
    listed = json.loads(run("registry", "list", config, "--subject", SUBJECT, "--json").stdout)
    states = {one["kid"]: one["status"] for one in listed}
    assert states == {kid: "revoked", json.loads(new)["key"]: "active"}
    assert "revoked" in run("registry", "list", config).stdout
    assert "no such key" in fail("registry", "revoke", config, "x")


def test_a_withdrawal_holds_at_the_node(tmp_path, key, config):
    register(config, key)
    path = grant(key, tmp_path / "c.jwt")
    assert inspect(path, "--node", config)["signature"] == "checks"
    run("consent", "revoke", "--key", key, "--token", path, "--out", tmp_path / "w.jwt")
    assert inspect(tmp_path / "w.jwt")["kind"] == "revocation"
    assert inspect(path, "--node", config)["state"] == "valid"
    said = run("consent", "revoke", "--signed", tmp_path / "w.jwt", "--node", config).stderr
    assert taken_apart(path.read_text())[1]["jti"] in said
    assert inspect(path, "--node", config, code=3)["state"] == "revoked"
    # Signed and applied in one go, by the id.
    other = grant(key, tmp_path / "d.jwt")
    jti = taken_apart(other.read_text())[1]["jti"]
    run("consent", "revoke", "--key", key, "--id", jti, "--node", config)
    assert inspect(other, "--node", config, code=3)["state"] == "revoked"
    for wrong in (["--signed", tmp_path / "w.jwt"], ["--key", key], ["--key", key, "--id", "x"]):
        fail("consent", "revoke", *wrong)


def test_an_unknown_key_withdraws_nothing(tmp_path, key, config):
    path = grant(key, tmp_path / "c.jwt")
    said = fail("consent", "revoke", "--key", key, "--token", path, "--node", config, code=3)
    assert "key of its subject" in said
    assert inspect(path, "--node", config, code=3)["signature"] == "does not check"


def test_the_list_of_a_node(tmp_path, key, config):
    from fedcredit.cli.registry import open_node

    register(config, key)
    token = grant(key, tmp_path / "c.jwt").read_text().strip()
    claims = taken_apart(token)[1]
    with open_node(config) as node, node.ledger.transaction() as tx:
        node.consents.present(tx, [token], claims["iat"])
    (one,) = json.loads(run("consent", "list", config, "--json").stdout)
    assert (one["subject"], one["institution"], one["state"]) == (SUBJECT, "bank", "valid")
    assert (one["used"], one["max_uses"], one["jti"]) == (0, 1, claims["jti"])
    assert claims["jti"] in run("consent", "list", config, "--subject", SUBJECT).stdout
    assert json.loads(run("consent", "list", config, "--institution", "x", "--json").stdout) == []
    assert token not in run("consent", "list", config, "--json").stdout


def test_declare(tmp_path, key):
    out = tmp_path / "declaration.json"
    words = ["--field", "annual_paid", "--unit", "CNY", "--resolution", "1000", "--out", out]
    result = run("consent", "declare", "--key", key, *words, typed="523417\n")
    assert "523417" not in result.output
    assert Declaration.load(out).opening("annual_paid").steps == 523
    facts = inspect(out, "--key", tmp_path / "e.pub.pem")
    assert (facts["kind"], facts["items"]) == ("declaration", ["annual_paid in 1000 CNY"])
    assert facts["signature"] == "checks"
    assert "523" not in json.dumps(facts["items"] + [facts["pledge"]])
    assert "number" in fail("consent", "declare", "--key", key, *words, "--value", "much")


def test_every_command_has_an_example():
    for group in (consent, registry):
        for command in group.commands.values():
            assert "Example" in command.epilog
            assert "fedcredit " in run(group.name, command.name, "--help").stdout
