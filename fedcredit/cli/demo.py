"""``fedcredit demo``: a whole federation on this machine, with real processes and mutual TLS."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from rich.console import Console

from fedcredit.cli.align import print_match
from fedcredit.cli.bars import CONSOLE, federation_bars
from fedcredit.cli.init import write_federation
from fedcredit.cli.institution_side import open_institution
from fedcredit.cli.output import human_bytes, json_option, print_json, print_table
from fedcredit.cli.platform import open_platform
from fedcredit.cli.registry import open_node
from fedcredit.cli.train import report_figures, write_report
from fedcredit.errors import ConfigError, Refusal
from fedcredit.node.config import load_config
from fedcredit.node.processes import running_federation

if TYPE_CHECKING:
    from fedcredit.datasets import VerticalData
    from fedcredit.governance.enterprise import Enterprise

__all__ = ["DATASETS", "demo"]

R = TypeVar("R")
_PLATFORM, _BANK, _BUREAU = "platform", "bank", "tax"
_MODEL = "demo@1"
_PURPOSE = "credit_granting"
#: The names of :data:`fedcredit.datasets.DATASETS`, without importing them.
DATASETS = ("cumcm2020c", "default-credit", "give-me-some-credit", "sme")


class _Question(NamedTuple):
    """What the bureau's menu offers: a field, the question in words, its threshold."""

    field: str
    text: str
    threshold: int


_PREDICATE = "at_least"
_MENUS = {
    "sme": _Question("annual_paid", "the tax paid last year is at least {threshold} CNY", 50_000),
    "default-credit": _Question("LIMIT_BAL", "the limit is at least {threshold} TWD", 100_000),
    "give-me-some-credit": _Question(
        "MonthlyIncome", "the monthly income is at least {threshold} USD", 5_000
    ),
    "cumcm2020c": _Question(
        "purchases_active_months", "purchases were made in {threshold} months or more", 24
    ),
}
#: Enterprises of the dry run: few, yet enough for an alignment that every party allows.
_DRY_ROWS = 600


@click.command(
    epilog="""\b
Examples:
  fedcredit demo
  fedcredit demo --dataset default-credit --data ~/data --keep runs/demo
  fedcredit demo --dataset give-me-some-credit --data ~/data --rows 30000 --trees 10

Starts a hub and one process per data provider, aligns dirty ids privately, trains on encrypted
gradients, and shows what the joint data was worth, what it cost and what each party learned. Then a
bank asks about one enterprise: for a score and a yes or no, encrypted for it alone, with and
without the enterprise's consent. The bureau proves from its audit log what it answered."""
)
@click.option("--dataset", default="sme", show_default=True, type=click.Choice(DATASETS))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the real data sets.")
@click.option("--rows", type=click.IntRange(500), help="Firms or clients [sme: 20000, else all].")
@click.option("--trees", default=20, show_default=True, type=click.IntRange(1))
@click.option("--depth", default=4, show_default=True, type=click.IntRange(1, 8))
@click.option("--open-membership", is_flag=True, help="Faster; shows providers a tree's nodes.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the federation and the report here and keep them.",
)
@json_option
def demo(
    dataset: str,
    data: Path | None,
    rows: int | None,
    trees: int,
    depth: int,
    open_membership: bool,
    seed: int,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run a federation on this machine, from raw tables to a bank's encrypted score."""
    from fedcredit.datasets import load

    begin = time.perf_counter()
    number = rows if rows is not None or dataset != "sme" else 20_000
    vertical = load(dataset, data=data, n=number, seed=seed, dirty=True)
    with _directory(keep) as directory:
        _write(vertical, directory)
        if not as_json:
            _introduce(vertical, directory)
        providers = list(vertical.providers)
        with _running(directory, providers):
            with (
                open_platform(_config(directory, _PLATFORM)) as (_, federation),
                federation_bars(federation),
            ):
                frame = federation.align()
                if not as_json:
                    print_match(frame)
                train, test = frame.train_test_split(
                    test_size=0.3, stratify=vertical.label, random_state=seed
                )
                from fedcredit.models.gbdt import VerticalGBDTClassifier

                model = VerticalGBDTClassifier(
                    n_estimators=trees,
                    max_depth=depth,
                    hide_membership=not open_membership,
                    categorical_features=vertical.categorical.get(_PLATFORM, ()),
                    random_state=seed,
                )
                report = model.fit(train, vertical.label).report(test)
                federation.deploy(model, _MODEL)
                subject = str(test.ids.iloc[0])
            answers = _ask_as_bank(directory, vertical, subject)
            token = answers["verification"].pop("consent")
            evidence = _prove(directory, subject, token, answers["verification"]["entry"])
        target = (keep or Path.cwd()) / "fedcredit-demo-report.html"
        write_report(report, target)
    seconds = time.perf_counter() - begin
    if as_json:
        service = {**answers, "audit": evidence}
        figures = {"service": service, "wall_seconds": seconds, "report": str(target)}
        print_json({**report_figures(report), **figures})
        return
    Console().print(report.summary())
    _show_service(answers, evidence)
    _conclude(report, seconds, target)


def _compile_kernels() -> None:
    """Run everything once on a few rows within this process.

    Otherwise the platform and every provider would compile the same kernels at the same time;
    compiled code is kept on the disk and shared.
    """
    from fedcredit.datasets import load
    from fedcredit.models.gbdt import VerticalGBDTClassifier
    from fedcredit.models.simulate import simulate

    dry = load("sme", n=_DRY_ROWS)
    with simulate(
        platform=dry.platform, categorical=dry.categorical, **dry.providers
    ) as federation:
        frame = federation.align(dry.key)
        model = VerticalGBDTClassifier(n_estimators=1, max_depth=2, random_state=0)
        model.fit(frame, dry.label).predict_proba(frame)
        service = federation.open_service()
        enterprise, bank = _enterprise(str(frame.ids.iloc[0])), service.accede(_BANK)
        service.register(enterprise)
        federation.deploy(model, _MODEL)
        bank.score(enterprise.uscc, _consent(enterprise, f"score:{_MODEL}"), model=_MODEL)


@contextlib.contextmanager
def _running(directory: Path, providers: list[str]) -> Iterator[None]:
    """Run the hub and the providers; a terminal shows what is waited for."""
    with contextlib.ExitStack() as stack:
        what = f"starting the hub, {', '.join(providers)}"
        with CONSOLE.status(f"{what} (the first time, kernels are compiled for a minute)"):
            stack.enter_context(
                running_federation(
                    directory, _PLATFORM, providers, serve=True, meanwhile=_compile_kernels
                )
            )
        yield
        with CONSOLE.status("stopping"):
            stack.close()


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if (keep / "ca").exists():
            raise ConfigError(
                f"{keep} holds a federation already.",
                step="demo",
                fix="name another directory with --keep",
            )
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="fedcredit-demo-") as temporary:
        yield Path(temporary)


def _write(vertical: VerticalData, directory: Path) -> None:
    """Write each party's table and the federation's certificates and configuration."""
    tables = {}
    for party, table in vertical.parties.items():
        folder = directory / party
        folder.mkdir(parents=True, exist_ok=True)
        tables[party] = folder / f"{party}.parquet"
        table.to_parquet(tables[party], index=False)
    write_federation(
        directory,
        platform=_PLATFORM,
        tables=tables,
        label=vertical.label,
        id_column=vertical.key,
        id_kind="uscc",
        port=_free_port(),
        categorical=vertical.categorical,
        institutions=[_BANK],
    )
    _write_menu(directory / _BUREAU / "catalog.toml", _MENUS[vertical.name])


def _write_menu(path: Path, question: _Question) -> None:
    """Open a field of a drafted catalog for verification, with one question."""
    name = f"fields.{json.dumps(question.field)}"
    before, table, after = path.read_text(encoding="utf-8").partition(f"[{name}]\n")
    after = after.replace('uses = ["training", ', 'uses = ["verification", "training", ', 1)
    menu = (
        f"\n[[{name}.predicates]]\n"
        f"id = {json.dumps(_PREDICATE)}\n"
        f"text = {json.dumps(question.text)}\n"
        f'operator = ">="\nthresholds = [{question.threshold}]\n'
    )
    path.write_text(before + table + after + menu, encoding="utf-8")


def _config(directory: Path, party: str) -> Path:
    return directory / party / f"{party}.toml"


# ------------------------------------------------------------------------------- the service


def _enterprise(subject: str) -> Enterprise:
    from fedcredit.governance.enterprise import Enterprise

    return Enterprise.generate(subject)


def _consent(enterprise: Enterprise, scope: str) -> str:
    return enterprise.grant(institution=_BANK, purpose=_PURPOSE, scope=[scope])


def _admit(config: Path, enterprise: Enterprise) -> None:
    """Do what a party's operator does: enter the enterprise's key, admit the bank."""
    from fedcredit.governance.institutions import onboard

    now = time.time()
    with open_node(config) as node:
        with node.change("key", {"change": "added"}, now) as (tx, subjects):
            node.keys.add("subject", enterprise.uscc, enterprise.public_key, now, tx=tx)
            subjects.append(enterprise.uscc)
        with node.ledger.transaction() as tx:
            onboard(
                tx,
                _BANK,
                assessment="demo",
                assessed=now,
                expires=now + timedelta(days=365).total_seconds(),
                purposes=(_PURPOSE,),
                now=now,
            )


def _ask_as_bank(directory: Path, vertical: VerticalData, subject: str) -> dict[str, Any]:
    """Ask for a score with and without consent, and for a yes or no."""
    enterprise = _enterprise(subject)
    for party in vertical.parties:
        _admit(_config(directory, party), enterprise)
    with open_institution(_config(directory, _BANK)) as bank:
        agreed = _consent(enterprise, f"score:{_MODEL}")
        score, seconds = _timed(lambda: bank.score(enterprise.uscc, agreed, model=_MODEL))
        try:
            bank.score(enterprise.uscc, "", model=_MODEL)
            code = "answered"
        except Refusal as refusal:
            code = refusal.code
        agreed_to_verify = _consent(enterprise, f"verify:{_BUREAU}.{_PREDICATE}")
        verified, verify_seconds = _timed(
            lambda: bank.verify(
                enterprise.uscc, agreed_to_verify, provider=_BUREAU, predicate=_PREDICATE
            )
        )
    return {
        "score": {
            "model": score.model,
            "raw": score.score,
            "probability": 1 / (1 + math.exp(-score.score)),
            "seconds": seconds,
            "signed_by": list(score.receipt.statements),
        },
        "without_consent": code,
        "verification": {
            "text": verified.text,
            "outcome": verified.outcome,
            "seconds": verify_seconds,
            "entry": verified.answer.stated.entry,
            "consent": agreed_to_verify,
        },
    }


def _timed(action: Callable[[], R]) -> tuple[R, float]:
    begin = time.perf_counter()
    return action(), time.perf_counter() - begin


def _prove(directory: Path, subject: str, token: str, number: int) -> dict[str, Any]:
    """Prove from the bureau's log what it answered; write the evidence and verify it offline."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from fedcredit.governance.evidence import Document, verify_bundle
    from fedcredit.node.governing import open_ledger, open_log

    config = load_config(_config(directory, _BUREAU))
    certificate = x509.load_der_x509_certificate(config.load_signing().certificate)
    ledger = open_ledger(config)
    try:
        log = open_log(config, ledger)
        proof = log.prove_inclusion(number)
        with ledger.reading() as tx:
            entry = log.entry(tx, number)
        bundle = log.export(
            number,
            disclose=_enterprise(subject).uscc,
            now=time.time(),
            documents=[Document("consent.jwt", token.encode(), "consent")],
            certificates={_BUREAU: certificate.public_bytes(Encoding.PEM).decode()},
        )
        untouched = log.verify().ok
    finally:
        ledger.close()
    path = directory / "evidence.json"
    path.write_text(json.dumps(bundle, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    checked = verify_bundle(path.read_bytes(), ca=(directory / "ca" / "ca.pem").read_bytes())
    return {
        "party": _BUREAU,
        "entry": number,
        "entries": proof.size,
        "included": proof.holds(entry.data),
        "log_verifies": untouched,
        "evidence": str(path),
        "evidence_verifies": checked.ok,
        "checks": [{"check": c.name, "ok": c.ok, "finding": c.text} for c in checked.checks],
    }


def _show_service(answers: dict[str, Any], audit: dict[str, Any]) -> None:
    score, verified = answers["score"], answers["verification"]
    print_table(
        f"The {_BANK} asks about one enterprise; nobody else can read the answers",
        ["question", "consent", "answer", "time"],
        [
            (
                f"score by {score['model']}",
                "signed by the enterprise",
                f"{score['raw']:.3f}, a probability of {score['probability']:.1%}",
                f"{score['seconds']:.2f} s, opening the session",
            ),
            (f"score by {score['model']}", "none", f"refused: {answers['without_consent']}", ""),
            (
                verified["text"],
                "signed by the enterprise",
                verified["outcome"].replace("_", " "),
                f"{verified['seconds']:.2f} s",
            ),
        ],
    )
    print_table(
        f"What {audit['party']} proves of its answer, entry {audit['entry']} of {audit['entries']}",
        ["check", "result", "finding"],
        [
            (c["check"], "ok" if c["ok"] else "FAILED", c["finding"])
            for c in (
                {"check": "log", "ok": audit["log_verifies"], "finding": "recomputed as a whole."},
                *audit["checks"],
            )
        ],
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _introduce(vertical: VerticalData, directory: Path) -> None:
    print_table(
        f"{vertical.name}: one table per party, ids as dirty as real ones",
        ["party", "rows", "columns"],
        [(n, f"{len(t):,}", f"{t.shape[1]}") for n, t in vertical.parties.items()],
    )
    click.echo(f"hub and parties run as processes of their own, mutual TLS, in {directory}")


def _conclude(report: Any, seconds: float, target: Path) -> None:
    spent = sum(phase.bytes or 0 for phase in report.phases)
    per_tree = sum(tree.seconds for tree in report.trees) / max(1, len(report.trees))
    click.echo(
        f"{seconds:.0f} s in all, {per_tree:.2f} s per tree, {human_bytes(spent)} on the wire"
    )
    click.echo(f"report: {target}")
