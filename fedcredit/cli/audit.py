"""``fedcredit audit``: read, verify and export a party's audit log."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.errors import InputError
from fedcredit.governance.audit import AuditLog
from fedcredit.governance.checks import Check, Report
from fedcredit.governance.entries import Entry
from fedcredit.governance.evidence import Document, verify_bundle
from fedcredit.governance.witnessing import witnessed_sizes
from fedcredit.node.config import NodeConfig, load_config

__all__ = ["audit"]

_TAMPERED = 3
_STEP = "audit"
_path = click.Path(path_type=Path, exists=True, dir_okay=False)


def _opened(config: NodeConfig) -> AbstractContextManager[AuditLog]:
    # Tables of usage come with it, and with them pandas.
    from fedcredit.node.governing import using_log

    return using_log(config)


@click.group()
def audit() -> None:
    """Read, verify and export the audit log."""


@audit.command(
    epilog="""\b
Examples:
  fedcredit audit verify tax.toml --copy platform-copy.txt
  fedcredit audit verify bundle.json --ca ca.pem

A configuration file stands for the party's whole log: everything is recomputed from its entries,
and compared with its checkpoints and with those that witnesses hold (--copy); "witnesses" tells
who has cosigned how much of it. A bundle is verified offline. Ends with code 3 if anything was
tampered with."""
)
@click.argument("source", metavar="CONFIG_OR_BUNDLE", type=_path)
@click.option("--ca", type=_path, help="For a bundle: the federation's CA certificate, PEM.")
@click.option(
    "--copy",
    "copies",
    multiple=True,
    type=_path,
    help="A checkpoint as a witness holds it. Repeat.",
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context, source: Path, ca: Path | None, copies: tuple[Path, ...], as_json: bool
) -> None:
    """Verify a log or a bundle."""
    content = source.read_bytes()
    if content.lstrip().startswith(b"{"):
        if ca is None:
            raise InputError(
                "a bundle is verified against a CA.", step=_STEP, fix="give --ca ca.pem"
            )
        report = verify_bundle(content, ca=ca.read_bytes())
    else:
        with _opened(load_config(source)) as log:
            report = log.verify([path.read_text(encoding="utf-8") for path in copies])
            sizes = witnessed_sizes(log)
        report = Report((*report.checks, _witnesses(sizes)))
    _print_report(report, as_json)
    if not report.ok:
        ctx.exit(_TAMPERED)


def _witnesses(sizes: Mapping[str, int]) -> Check:
    seen = ", ".join(f"{name} {size}" for name, size in sizes.items())
    text = f"entries that others have cosigned: {seen}." if seen else "nobody has witnessed it."
    return Check("witnesses", True, text)


def _print_report(report: Report, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    rows = [(check.name, "ok" if check.ok else "FAILED", check.text) for check in report.checks]
    print_table("Verification", ["check", "result", "finding"], rows)
    click.echo("everything holds" if report.ok else "TAMPERED: do not rely on it")


@audit.command(
    epilog="""\b
Example:
  fedcredit audit prove tax.toml --entry 17 --out proof.json

The same as `export`, without attachments."""
)
@click.argument("config", type=_path)
@click.option("--entry", type=click.IntRange(0), required=True, help="Its number.")
@click.option("--subject", help="USCC of one enterprise to disclose.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: print it.")
@json_option
def prove(config: Path, entry: int, subject: str | None, out: Path | None, as_json: bool) -> None:
    """Prove that an entry stands in the log."""
    bundle = _bundle(load_config(config), {"number": entry}, subject)
    if out is None:
        print_json(bundle)
        return
    _write(out, bundle, as_json)


@audit.command(
    epilog="""\b
Example:
  fedcredit audit export tax.toml --entry 17 --subject 91350211M000100Y43 \\
      --consent token.jwt --receipt receipt.json --out bundle.json

The bundle needs no database to be verified: fedcredit audit verify bundle.json --ca ca.pem"""
)
@click.argument("config", type=_path)
@click.option("--entry", type=click.IntRange(0), help="Its number.")
@click.option("--request", help="Or the request's digest, hex.")
@click.option("--subject", help="USCC of one enterprise to disclose.")
@click.option("--consent", type=_path, help="Its consent token.")
@click.option("--receipt", type=_path, help="The receipt, JSON.")
@click.option("--attach", multiple=True, type=_path, help="Another document. Repeat.")
@click.option("--certificate", multiple=True, type=_path, help="A witness's certificate. Repeat.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
@json_option
def export(
    config: Path,
    entry: int | None,
    request: str | None,
    subject: str | None,
    consent: Path | None,
    receipt: Path | None,
    attach: tuple[Path, ...],
    certificate: tuple[Path, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Write the evidence of an entry, for a notary, an arbitrator or a court."""
    if (entry is None) == (request is None):
        raise click.UsageError("give --entry or --request")
    given = [("consent", consent), ("receipt", receipt), *(("other", path) for path in attach)]
    documents = [
        Document(path.name, path.read_bytes(), kind) for kind, path in given if path is not None
    ]
    bundle = _bundle(
        load_config(config),
        {"number": entry, "request": request},
        subject,
        documents=documents,
        certificates=dict(_witness(path) for path in certificate),
    )
    _write(out, bundle, as_json)


def _witness(path: Path) -> tuple[str, str]:
    pem = path.read_text(encoding="ascii", errors="replace")
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)[0], pem
    except (ValueError, IndexError, x509.ExtensionNotFound):
        raise InputError(
            f"{path.name} is no party's certificate.", step=_STEP, fix="give a PEM certificate"
        ) from None


def _bundle(
    config: NodeConfig,
    entry: Mapping[str, Any],
    subject: str | None,
    *,
    documents: list[Document] | None = None,
    certificates: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    der = config.load_signing().certificate
    pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()
    with _opened(config) as log:
        return log.export(
            **entry,
            disclose=subject,
            now=time.time(),
            documents=documents or [],
            certificates={**(certificates or {}), config.party: pem},
        )


def _write(out: Path, bundle: dict[str, Any], as_json: bool) -> None:
    out.write_text(json.dumps(bundle, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    number = json.loads(bundle["entry"])["number"]
    if as_json:
        print_json({"entry": number, "out": str(out)})
    else:
        click.echo(f"entry {number}: {out}")


@audit.command(
    epilog="""\b
Example:
  fedcredit audit log tax.toml --institution bank --kind refusal --last 50

The newest come first."""
)
@click.argument("config", type=_path)
@click.option("--kind", help="score, verify, refusal, ...")
@click.option("--institution", help="Who asked.")
@click.option("--target", help="The model or predicate.")
@click.option("--outcome", help="admitted, or a refusal's code.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="UTC.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="UTC.")
@click.option("--last", default=100, show_default=True, type=click.IntRange(1), help="How many.")
@json_option
def log(
    config: Path,
    kind: str | None,
    institution: str | None,
    target: str | None,
    outcome: str | None,
    since: datetime | None,
    until: datetime | None,
    last: int,
    as_json: bool,
) -> None:
    """List the entries."""
    wanted = {"institution": institution, "target": target, "outcome": outcome}
    low = since.replace(tzinfo=UTC).timestamp() if since else float("-inf")
    high = until.replace(tzinfo=UTC).timestamp() if until else float("inf")

    def fits(entry: Entry) -> bool:
        facts = all(entry.facts.get(key) == value for key, value in wanted.items() if value)
        return facts and kind in (None, entry.kind) and low <= entry.time < high

    with _opened(load_config(config)) as opened:
        found = list(islice(filter(fits, opened.entries(newest_first=True)), last))
    if as_json:
        print_json([json.loads(entry.data) for entry in found])
        return
    columns = ["entry", "time (UTC)", "kind", "institution", "target", "enterprises", "outcome"]
    print_table("Audit log", columns, [_row(entry) for entry in found])


def _row(entry: Entry) -> tuple[object, ...]:
    facts = entry.facts
    return (
        entry.number,
        f"{datetime.fromtimestamp(entry.time, UTC):%Y-%m-%d %H:%M:%S}",
        entry.kind,
        facts.get("institution", ""),
        facts.get("target", ""),
        entry.subjects or "",
        facts.get("outcome", ""),
    )


@audit.command(
    epilog="""\b
Example:
  fedcredit audit checkpoint tax.toml > tax-checkpoint.txt

Hand it to the other members, or publish it: what it covers can then no longer be rewritten."""
)
@click.argument("config", type=_path)
@json_option
def checkpoint(config: Path, as_json: bool) -> None:
    """Sign the log as it is now."""
    with _opened(load_config(config)) as opened:
        made = opened.checkpoint(time.time())
    if as_json:
        values = {"origin": made.origin, "size": made.size, "root": made.root.hex()}
        print_json({**values, "note": made.note})
    else:
        click.echo(made.note, nl=False)


@audit.command(
    epilog="""\b
Examples:
  fedcredit audit exchange platform.toml
  fedcredit audit exchange platform.toml --provider tax --provider social --json

The platform and its providers witness each other's logs, as they do in every session of an
institution. Run it daily: what was witnessed can no longer be rewritten unnoticed. Ends with code
3 if anybody refuses a log."""
)
@click.argument("config", type=_path)
@click.option("--provider", "providers", multiple=True, help="Default: all. Repeat.")
@json_option
@click.pass_context
def exchange(ctx: click.Context, config: Path, providers: tuple[str, ...], as_json: bool) -> None:
    """Exchange checkpoints with the providers."""
    # Everything numeric comes with it.
    from fedcredit.cli.platform import open_platform

    with open_platform(config) as (_, federation):
        done = federation.exchange_checkpoints(providers=providers or None)
        platform = federation.platform
    refused = {platform: sorted(done.refused)} | {
        name: sorted(names) for name, names in done.reports.items()
    }
    if as_json:
        print_json(
            {
                "size": done.size,
                "cosigned": list(done.cosigned),
                "witnessed": list(done.witnessed),
                "refused": {name: names for name, names in refused.items() if names},
            }
        )
    else:
        rows = [
            (
                name,
                "no" if name in done.refused else "yes",
                "no" if name in done.refused_by else "yes",
                ", ".join(refused.get(name, [])),
            )
            for name in (*done.witnessed, *done.refused)
        ]
        columns = ["provider", "witnessed", f"has cosigned {platform}", "refuses the logs of"]
        print_table("Checkpoints", columns, rows)
        click.echo(f"{platform} has shown {done.size} entries")
        for name, why in (*done.refused.items(), *done.refused_by.items()):
            click.echo(f"{name}: {why}", err=True)
    if any(refused.values()) or done.refused_by:
        ctx.exit(_TAMPERED)
