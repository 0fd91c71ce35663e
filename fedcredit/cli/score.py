"""``fedcredit score``: put models into service, and ask for encrypted scores."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedcredit.cli.institution_side import consent_text, open_institution
from fedcredit.cli.output import json_option, print_json, print_table
from fedcredit.cli.platform import check_target, open_platform
from fedcredit.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from fedcredit.models.scoring.results import ScoreBatch
    from fedcredit.models.scoring.served import ServedModel

__all__ = ["score"]

_FILE = click.Path(path_type=Path)


@click.group()
def score() -> None:
    """Serve models to institutions; ask for encrypted scores."""


# ----------------------------------------------------------------------------- the platform


def _bands(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for value in values:
        name, separator, low = value.partition("=")
        try:
            found[name] = float(low)
        except ValueError:
            separator = ""
        if not (name and separator):
            raise click.BadParameter(f"{value!r} is not NAME=LOWEST_SCORE")
    return found


@score.command(
    epilog="""\b
Example:
  fedcredit score deploy platform.toml --model card.fed --as sme-card@1 \\
      --purpose credit_granting --band D=-inf --band C=560 --band B=600 --band A=640

Every provider of the model holds its part to its catalog and logs it; if one refuses, the model
is served nowhere. A name and version never change their meaning."""
)
@click.argument("config", type=_FILE)
@click.option("--model", "model_path", required=True, type=_FILE, help="A saved model.")
@click.option("--as", "target", required=True, metavar="NAME@VERSION")
@click.option("--purpose", "purposes", multiple=True, default=("credit_granting",))
@click.option("--band", "bands", multiple=True, callback=_bands, metavar="NAME=LOWEST")
@click.option("--fallback", default="", metavar="NAME@VERSION", help="While a provider is away.")
@click.option("--own-feature", "own", multiple=True, help="The institution supplies it. Repeat.")
@json_option
def deploy(
    config: Path,
    model_path: Path,
    target: str,
    purposes: tuple[str, ...],
    bands: dict[str, float],
    fallback: str,
    own: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve a saved model, as the platform of CONFIG."""
    try:
        data = model_path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{model_path} cannot be read ({error.strerror}).", step="deploy"
        ) from None
    with open_platform(config) as (_, federation):
        from fedcredit.models.load import load_model

        header = federation.deploy(
            load_model(data, federation),
            target,
            purposes=purposes,
            bands=bands,
            fallback=fallback,
            own_features=own,
        )
    if as_json:
        print_json(_described(header))
        return
    click.echo(f"{target} is served by {', '.join(header.parties)} ({header.digest[:16]})")


@score.command(
    epilog="""\b
Example:
  fedcredit score withdraw platform.toml sme-card@1"""
)
@click.argument("config", type=_FILE)
@click.argument("target")
def withdraw(config: Path, target: str) -> None:
    """Stop serving TARGET (name@version), as the platform of CONFIG."""
    with open_platform(config) as (_, federation):
        federation.withdraw(target)
    click.echo(f"{target} is no longer served")


# -------------------------------------------------------------------------- the institution


@score.command(
    epilog="""\b
Example:
  fedcredit score models bank.toml"""
)
@click.argument("config", type=_FILE)
@json_option
def models(config: Path, as_json: bool) -> None:
    """List the models that are served, as the institution of CONFIG."""
    with open_institution(config) as bank:
        found = bank.models()
    if as_json:
        print_json([_described(model) for model in found])
        return
    print_table(
        "Models in service",
        ["model", "kind", "parties", "purposes", "bands", "own features"],
        [
            (
                m.target,
                m.kind,
                ", ".join(m.parties),
                ", ".join(m.purposes),
                " ".join(f"{band.name}≥{band.low:g}" for band in m.bands),
                ", ".join(feature.name for feature in m.own_features),
            )
            for m in found
        ],
    )


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "target": model.target,
        "kind": model.kind,
        "digest": model.digest,
        "parties": list(model.parties),
        "purposes": list(model.purposes),
        "bands": {band.name: band.low for band in model.bands},
        "fallback": model.fallback,
        "own_features": [feature.name for feature in model.own_features],
        "deployed": model.deployed,
    }


@score.command(
    epilog="""\b
Examples:
  fedcredit score request bank.toml --model sme-card@1 --subject 91330106MA2CFG0X3T \\
      --consent token.jwt --reasons 3 --receipt receipt.json
  fedcredit score request bank.toml --model sme-card@1 --batch portfolio.csv --out scores.csv

A batch file has the columns uscc and consent (a token, or the path of a file with one), and one
for each of the model's own features; at most 4,096 lines. Keys stay in this process; nobody else
can read a score. Exit code 3: a party refused, and says by which rule."""
)
@click.argument("config", type=_FILE)
@click.option("--model", "target", required=True, metavar="NAME@VERSION")
@click.option("--subject", help="Unified social credit code of the enterprise.")
@click.option("--consent", help="Its token, or a file that holds it.")
@click.option("--batch", type=_FILE, help="A CSV file of several enterprises.")
@click.option("--purpose", default="credit_granting", show_default=True)
@click.option(
    "--mode",
    default="homomorphic",
    show_default=True,
    type=click.Choice(["homomorphic", "masked"]),
)
@click.option("--reasons", default=0, show_default=True, type=click.IntRange(0, 4))
@click.option("--own", multiple=True, metavar="NAME=VALUE", help="A feature of your own. Repeat.")
@click.option("--allow-fallback", is_flag=True, help="Take the fallback model, flagged.")
@click.option("--out", type=_FILE, help="Write the scores to a CSV file.")
@click.option("--receipt", "receipt_path", type=_FILE, help="Write the signed receipt (JSON).")
@json_option
def request(
    config: Path,
    target: str,
    subject: str | None,
    consent: str | None,
    batch: Path | None,
    purpose: str,
    mode: str,
    reasons: int,
    own: tuple[str, ...],
    allow_fallback: bool,
    out: Path | None,
    receipt_path: Path | None,
    as_json: bool,
) -> None:
    """Ask for the scores of one enterprise or a batch, as the institution of CONFIG."""
    if (batch is None) == (subject is None or consent is None):
        raise click.UsageError("give --subject and --consent, or --batch")
    check_target(out, "--out")
    check_target(receipt_path, "--receipt")
    subjects, consents, features = (
        _batch(batch) if batch is not None else _single(subject or "", consent or "", own)
    )
    with open_institution(config) as bank:
        scores = bank.score_batch(
            subjects,
            consents,
            model=target,
            purpose=purpose,
            mode=mode,
            reasons=reasons,
            own=features or None,
            allow_fallback=allow_fallback,
        )
    try:
        if receipt_path is not None:
            receipt_path.write_text(scores.receipt.to_json())
        if out is not None:
            scores.to_frame().to_csv(out, index=False)
    except OSError as error:
        raise StorageError(f"the file cannot be written ({error.strerror}).") from None
    if as_json:
        print_json([result.to_dict() for result in scores])
        return
    _show(scores, target)


def _single(
    subject: str, consent: str, own: tuple[str, ...]
) -> tuple[list[str], list[str], dict[str, list[Any]]]:
    features: dict[str, list[Any]] = {}
    for pair in own:
        name, separator, value = pair.partition("=")
        if not separator:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--own")
        features[name] = [_number(value)]
    return [subject], [consent_text(consent)], features


def _number(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def _batch(path: Path) -> tuple[list[str], list[str], dict[str, list[Any]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            names = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}).",
            step="score",
            fix="give a CSV file in UTF-8 with the columns uscc and consent",
        ) from None
    if not lines or not {"uscc", "consent"} <= set(names):
        raise ConfigError(
            f"{path} lacks the columns uscc and consent, or any line.",
            step="score",
            fix="give one line per enterprise",
        )
    features = {
        name: [_number(line[name] or "") for line in lines]
        for name in names
        if name not in ("uscc", "consent")
    }
    consents = [consent_text(line["consent"] or "", beside=path) for line in lines]
    return [line["uscc"] or "" for line in lines], consents, features


def _show(scores: ScoreBatch, target: str) -> None:
    if scores.fallback:
        click.echo(
            f"warning: {', '.join(scores.missing)} away; this is the fallback model", err=True
        )
    rows = [
        (
            r.subject,
            f"{r.score:.0f}" if scores.header.scale_bits == 0 else f"{r.score:.4f}",
            r.band,
            r.model,
            ", ".join(r.no_record),
            "; ".join(map(str, r.reasons)),
        )
        for r in scores
    ]
    print_table(
        f"Scores by {target}", ["uscc", "score", "band", "model", "no record at", "reasons"], rows
    )
    first = scores[0]
    click.echo("data as of " + ", ".join(f"{p} {day}" for p, day in first.as_of.items() if day))
    click.echo(f"receipt signed by {', '.join(scores.receipt.statements)}")


# ------------------------------------------------------------------------------ a supervisor


@score.command(
    epilog="""\b
Examples:
  fedcredit score check receipt.json --ca ca.pem
  fedcredit score check answer.json --ca ca.pem

FILE is a receipt of `fedcredit score request` or an answer of `fedcredit verify`. Every signature
is checked with the certificates in it, against the federation's CA; nothing else is needed, and
nobody is asked. Exit code 5: something does not check."""
)
@click.argument("file", type=_FILE)
@click.option("--ca", required=True, type=_FILE, help="The CA certificates of the federation.")
@json_option
def check(file: Path, ca: Path, as_json: bool) -> None:
    """Check a receipt or a signed answer offline, as a supervisor or court would."""
    from fedcredit.node.papers import check_paper

    try:
        text, authorities = file.read_bytes(), ca.read_bytes()
    except OSError as error:
        raise ConfigError(f"a file cannot be read ({error.strerror}).", step="check") from None
    found = check_paper(text, authorities)
    if as_json:
        print_json(found)
        return
    for party, stated in found["statements"].items():
        print_table(f"Signed by {party}", ["what", "value"], list(stated.items()))
    click.echo("every signature checks")
