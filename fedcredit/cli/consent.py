"""``fedcredit consent``: an enterprise's key, its consents, withdrawals and declarations."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.cli.registry import day, open_node, read_public_key
from fedcredit.errors import InputError, KeyMaterialError, Refusal, StorageError
from fedcredit.governance.question import PURPOSES

if TYPE_CHECKING:
    from fedcredit.governance.enterprise import Enterprise

__all__ = ["consent"]

_STEP = "consent"
_NEW = click.Path(path_type=Path, dir_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_MAX_FILE = 65_536
_key_option = click.option("--key", required=True, type=_FILE, help="The enterprise's key file.")
_passphrase_option = click.option(
    "--passphrase-file", type=_FILE, help="Holds the key's passphrase; default: ask."
)
_out_option = click.option("--out", type=_NEW, help="A new file (mode 0600); default: print.")


@click.group()
def consent() -> None:
    """Grant, withdraw and look at consents."""


@consent.command(
    epilog="""\b
Examples:
  fedcredit consent keygen --subject 91440300MA5EXAMPL3 --out enterprise.pem
  fedcredit consent keygen --subject 91440300MA5EXAMPL3 --out test.pem --no-passphrase

The key file stays with the enterprise. The public half (enterprise.pub.pem) goes to the parties,
who enter it with `fedcredit registry add`."""
)
@click.option("--subject", required=True, metavar="USCC", help="The enterprise.")
@click.option("--out", required=True, type=_NEW, help="A new file (mode 0600) for the key.")
@click.option("--passphrase-file", type=_FILE, help="Holds a passphrase; default: ask for one.")
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted.")
@json_option
def keygen(
    subject: str, out: Path, passphrase_file: Path | None, no_passphrase: bool, as_json: bool
) -> None:
    """Make an enterprise's signing key."""
    from fedcredit import uscc
    from fedcredit.governance.enterprise import Enterprise

    who = Enterprise.generate(subject)
    if not uscc.is_valid([who.uscc])[0]:
        click.echo("warning: the code's check character does not hold", err=True)
    public = out.with_suffix(".pub.pem")
    if public.exists():
        raise StorageError("the file for the public key is there already.", step=_STEP)
    passphrase = None
    if passphrase_file is not None:
        passphrase = _first_line(passphrase_file)
    elif not no_passphrase:
        passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    who.save(out, passphrase)
    try:
        public.write_bytes(who.public_pem)
    except OSError as error:
        raise StorageError(f"a file cannot be written ({error.strerror}).", step=_STEP) from None
    if as_json:
        print_json({"key": who.kid, "private": str(out), "public": str(public)})
    else:
        click.echo(f"{out}: the key, to be kept\n{public}: for the parties\nkey {who.kid}")


@consent.command(
    epilog="""\b
Example:
  fedcredit consent grant --key enterprise.pem --institution bank --purpose credit_granting \\
      --scope score:sme-card@1 --scope reasons --valid-days 30 --out consent.jwt

Whoever holds the token can ask in the institution's name only; still, hand it to the institution
alone. A scope is score:<model>@<version>, verify:<provider>.<predicate> or reasons."""
)
@_key_option
@click.option("--institution", required=True, help="Who may ask.")
@click.option("--purpose", required=True, type=click.Choice(list(PURPOSES)), help="What for.")
@click.option("--scope", "scope", multiple=True, required=True, help="What may be asked. Repeat.")
@click.option("--valid-days", default=30, show_default=True, type=click.IntRange(1, 400))
@click.option("--max-uses", default=1, show_default=True, type=click.IntRange(1))
@_passphrase_option
@_out_option
def grant(
    key: Path,
    institution: str,
    purpose: str,
    scope: tuple[str, ...],
    valid_days: int,
    max_uses: int,
    passphrase_file: Path | None,
    out: Path | None,
) -> None:
    """Consent to questions of one institution."""
    token = _enterprise(key, passphrase_file).grant(
        institution=institution,
        purpose=purpose,
        scope=scope,
        valid_days=valid_days,
        max_uses=max_uses,
        now=time.time(),
    )
    _give(token, out)


@consent.command(
    epilog="""\b
Examples:
  fedcredit consent revoke --key enterprise.pem --token consent.jwt --out withdrawal.jwt
  fedcredit consent revoke --key enterprise.pem --id 0f3c... --node tax.toml
  fedcredit consent revoke --signed withdrawal.jwt --node tax.toml

With --node, a party's operator applies the withdrawal to its database; it holds at once."""
)
@click.option("--key", type=_FILE, help="The enterprise's key file.")
@click.option("--id", "jti", help="The consent's id (jti).")
@click.option("--token", help="The consent, or a file that holds it.")
@click.option("--signed", help="A withdrawal signed before, or a file that holds it.")
@click.option("--node", type=_FILE, metavar="CONFIG", help="Apply it at this party.")
@_passphrase_option
@_out_option
def revoke(
    key: Path | None,
    jti: str | None,
    token: str | None,
    signed: str | None,
    node: Path | None,
    passphrase_file: Path | None,
    out: Path | None,
) -> None:
    """Withdraw a consent."""
    if (signed is None) == (key is None):
        raise click.UsageError("Give either --key, to sign a withdrawal, or --signed.")
    if key is not None and (jti is None) == (token is None):
        raise click.UsageError("Give either --id or --token of the consent.")
    now = time.time()
    if signed is not None:
        if node is None:
            raise click.UsageError("Give --node, where the withdrawal is to be applied.")
        word = _text(signed)
    else:
        assert key is not None
        given = jti if jti is not None else _text(str(token))
        word = _enterprise(key, passphrase_file).revoke(given, now=now)
    if node is not None:
        from fedcredit.governance.tokens import REVOCATION, read_token

        with open_node(node) as at, at.change("revocation", {}, now) as (tx, subjects):
            done = at.consents.revoke(tx, word, now)
            subjects.append(read_token(word, REVOCATION).claims["sub"])
        click.echo(f"{at.party}: consent {done} is withdrawn", err=True)
    if signed is None and (out is not None or node is None):
        _give(word, out)


@consent.command(
    "list",
    epilog="""\b
Examples:
  fedcredit consent list tax.toml
  fedcredit consent list tax.toml --institution bank --json""",
)
@click.argument("config", type=_FILE)
@click.option("--subject", metavar="USCC", help="Only this enterprise's.")
@click.option("--institution", metavar="NAME", help="Only those given to this institution.")
@json_option
def list_consents(
    config: Path, subject: str | None, institution: str | None, as_json: bool
) -> None:
    """List the consents that a party has seen, and their states."""
    from fedcredit.governance.keys import normalise_subject

    who = None if subject is None else normalise_subject(subject)
    with open_node(config, must_exist=True) as node, node.ledger.reading() as tx:
        records = node.consents.listing(tx, time.time(), subject=who, institution=institution)
    if as_json:
        fields = "subject institution purpose scope jti kid not_before expires registered max_uses"
        names = [*fields.split(), "used", "revoked", "state"]
        print_json([{name: getattr(one, name) for name in names} for one in records])
        return
    rows = [
        (
            *(one.subject, one.institution, one.purpose, " ".join(one.scope)),
            *(f"{one.used}/{one.max_uses}", day(one.expires), one.state, one.jti),
        )
        for one in records
    ]
    columns = ["subject", "institution", "purpose", "scope", "used", "until", "state", "id"]
    print_table("Consents", columns, rows)


@consent.command(
    epilog="""\b
Examples:
  fedcredit consent inspect consent.jwt
  fedcredit consent inspect consent.jwt --key enterprise.pub.pem
  fedcredit consent inspect consent.jwt --node tax.toml --json

Without --key or --node the signature is not checked. Ends with code 3 if it does not hold."""
)
@click.argument("token")
@click.option("--key", type=_FILE, help="The public key that should have signed.")
@click.option("--node", type=_FILE, metavar="CONFIG", help="Check against this party's registry.")
@json_option
@click.pass_context
def inspect(
    ctx: click.Context, token: str, key: Path | None, node: Path | None, as_json: bool
) -> None:
    """Show what TOKEN (or the file TOKEN) says: consent, withdrawal or declaration."""
    facts = _inspect(_text(token), key, node, time.time())
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            click.echo(f"{name + ':':13}{shown}")
    if facts["state"] not in ("valid", "not yet") or facts["signature"] == "does not check":
        ctx.exit(3)


@consent.command(
    epilog="""\b
Example:
  fedcredit consent declare --key enterprise.pem --field annual_paid --unit CNY \\
      --resolution 1000 --value 523417 --out declaration.json

The file holds the signed declaration, which shows no figure, and what opens it. Hand it to the
institution alone. Without --value the figure is asked for, so that it stays out of the history."""
)
@_key_option
@click.option("--field", required=True, help="Field of the provider's catalog.")
@click.option("--value", help="The figure; default: ask.")
@click.option("--unit", default="", help="Such as CNY.")
@click.option("--resolution", default="1", show_default=True, help="Steps of the figure.")
@click.option("--pledge", default="", help="The text that is signed; default: that it is true.")
@click.option("--valid-days", default=366, show_default=True, type=click.IntRange(1, 732))
@_passphrase_option
@click.option("--out", required=True, type=_NEW, help="A new file (mode 0600).")
def declare(
    key: Path,
    field: str,
    value: str | None,
    unit: str,
    resolution: str,
    pledge: str,
    valid_days: int,
    passphrase_file: Path | None,
    out: Path,
) -> None:
    """Pledge that a figure is true, without showing it."""
    who = _enterprise(key, passphrase_file)
    if value is None:
        value = click.prompt("Value", hide_input=True, err=True)
    made = who.declare(
        field=field,
        value=value,
        unit=unit,
        resolution=resolution,
        pledge=pledge,
        valid_days=valid_days,
        now=time.time(),
    )
    made.save(out)
    click.echo(f"{out}: the declaration and its opening")


def _inspect(text: str, key: Path | None, node: Path | None, now: float) -> dict[str, Any]:
    from fedcredit.governance import consent_token, declaration
    from fedcredit.governance.tokens import (
        CLOCK_SKEW,
        CONSENT,
        DECLARATION,
        REVOCATION,
        check_id,
        check_signature,
        check_subject,
        check_time,
        read_token,
        thumbprint,
    )

    kind = next((one for one in (REVOCATION, DECLARATION) if _is_kind(text, one)), CONSENT)
    signed = read_token(text, kind)
    facts: dict[str, Any] = {"kind": kind.name, "subject": check_subject(signed)}
    start, end = check_time(signed, "iat"), None
    if kind is CONSENT:
        parsed = consent_token.consent_of(signed)
        start, end = max(parsed.issued, parsed.not_before), parsed.expires
        facts |= {"institution": parsed.institution, "purpose": parsed.purpose}
        facts |= {"scope": parsed.scope, "max uses": parsed.max_uses}
    elif kind is DECLARATION:
        declared = declaration.parse_declaration(text)
        end = declared.expires
        items = [f"{one.field} in {one.resolution} {one.unit}".strip() for one in declared.items]
        facts |= {"pledge": declared.pledge, "items": items}
    facts |= {"id": check_id(signed), "from": day(start), "until": day(end), "key": signed.kid}
    state, signature, public = "valid", "not checked", None
    if end is not None and now >= end + CLOCK_SKEW:
        state = "expired"
    elif now < start - CLOCK_SKEW:
        state = "not yet"
    if node is not None:
        with open_node(node, must_exist=True) as at, at.ledger.reading() as tx:
            found = at.keys.find(signed.kid, tx)
            listed = at.consents.listing(tx, now, subject=facts["subject"], jti=facts["id"])
            if at.consents.withdrawn(tx, facts["subject"], facts["id"]) is not None:
                state = "revoked"
        signature = "does not check"
        if found is not None and found.owner == facts["subject"] and found.status != "revoked":
            public = found.public_key
        if kind is CONSENT and listed:
            state, facts["used"] = listed[0].state, listed[0].used
    elif key is not None:
        signature, public = "does not check", read_public_key(key)
    if public is not None and thumbprint(public) == signed.kid:
        try:
            check_signature(signed, public)
            signature = "checks"
        except Refusal:
            signature = "does not check"
    return facts | {"signature": signature, "state": state}


def _is_kind(text: str, kind: Any) -> bool:
    from fedcredit.governance.tokens import read_token

    try:
        read_token(text, kind)
    except Refusal:
        return False
    return True


def _enterprise(key: Path, passphrase_file: Path | None) -> Enterprise:
    from fedcredit.governance.enterprise import Enterprise

    passphrase = None
    if passphrase_file is not None:
        passphrase = _first_line(passphrase_file)
    elif b"ENCRYPTED" in _read(key):
        passphrase = click.prompt("Passphrase", hide_input=True, err=True)
    try:
        return Enterprise.load(key, passphrase)
    except KeyMaterialError as error:
        raise InputError(error.reason, step=error.step, fix=error.fix) from None


def _text(token: str) -> str:
    """Return a token that is given itself or as a file, also one with openings beside it."""
    if token.count(".") == 2 and not Path(token[:255]).is_file():
        return token
    text = _read(Path(token)).decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["token"])
        except (ValueError, KeyError, TypeError):
            raise InputError("the file holds no token.", step=_STEP) from None
    return text


def _first_line(path: Path) -> str:
    text = _read(path).decode("utf-8", "replace").splitlines()
    if not text or not text[0]:
        raise InputError("the passphrase file is empty.", step=_STEP)
    return text[0]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except (OSError, ValueError):
        raise StorageError(
            "the file cannot be read.", step=_STEP, fix="give a token or the file of one"
        ) from None


def _give(token: str, out: Path | None) -> None:
    from fedcredit.governance.secret_file import write_secret

    if out is None:
        click.echo(token)
        return
    write_secret(out, f"{token}\n".encode(), step=_STEP)
    click.echo(str(out), err=True)
