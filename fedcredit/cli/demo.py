"""``fedcredit demo``: a whole federation on this machine, with real processes and mutual TLS."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from fedcredit.cli.align import print_match
from fedcredit.cli.bars import CONSOLE, federation_bars
from fedcredit.cli.init import write_federation
from fedcredit.cli.output import human_bytes, json_option, print_json, print_table
from fedcredit.cli.platform import open_platform
from fedcredit.cli.train import report_figures, write_report
from fedcredit.errors import ConfigError
from fedcredit.node.processes import running_federation

if TYPE_CHECKING:
    from fedcredit.datasets import VerticalData

__all__ = ["DATASETS", "demo"]

_PLATFORM = "platform"
#: The names of :data:`fedcredit.datasets.DATASETS`, without importing them.
DATASETS = ("cumcm2020c", "default-credit", "give-me-some-credit", "sme")
#: Enterprises of the dry run: few, yet enough for an alignment that every party allows.
_DRY_ROWS = 600


@click.command(
    epilog="""\b
Examples:
  fedcredit demo
  fedcredit demo --dataset default-credit --data ~/data --keep runs/demo
  fedcredit demo --dataset give-me-some-credit --data ~/data --rows 30000 --trees 10

Starts a hub and one process per data provider, aligns dirty ids privately, trains on encrypted
gradients, and shows what the joint data was worth, what it cost and what each party learned."""
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
    """Run a federation of three parties on this machine, from raw tables to a report."""
    from fedcredit.datasets import load

    begin = time.perf_counter()
    number = rows if rows is not None or dataset != "sme" else 20_000
    vertical = load(dataset, data=data, n=number, seed=seed, dirty=True)
    with _directory(keep) as directory:
        _write(vertical, directory)
        if not as_json:
            _introduce(vertical, directory)
        providers = list(vertical.providers)
        with (
            _running(directory, providers),
            open_platform(directory / _PLATFORM / f"{_PLATFORM}.toml") as (_, federation),
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
        target = (keep or Path.cwd()) / "fedcredit-demo-report.html"
        write_report(report, target)
    seconds = time.perf_counter() - begin
    if as_json:
        print_json({**report_figures(report), "wall_seconds": seconds, "report": str(target)})
        return
    _conclude(report, seconds, target)


def _compile_kernels() -> None:
    """Run everything once on a few rows within this process.

    Otherwise the platform and every provider would compile the same kernels at the same time;
    compiled code is kept on the disk and shared.
    """
    from fedcredit.datasets import load
    from fedcredit.models.federation import simulate
    from fedcredit.models.gbdt import VerticalGBDTClassifier

    dry = load("sme", n=_DRY_ROWS)
    with simulate(
        platform=dry.platform, categorical=dry.categorical, **dry.providers
    ) as federation:
        frame = federation.align(dry.key)
        model = VerticalGBDTClassifier(n_estimators=1, max_depth=2, random_state=0)
        model.fit(frame, dry.label).predict_proba(frame)


@contextlib.contextmanager
def _running(directory: Path, providers: list[str]) -> Iterator[None]:
    """Run the hub and the providers; a terminal shows what is waited for."""
    with contextlib.ExitStack() as stack:
        what = f"starting the hub, {', '.join(providers)}"
        with CONSOLE.status(f"{what} (the first time, kernels are compiled for a minute)"):
            stack.enter_context(
                running_federation(directory, _PLATFORM, providers, meanwhile=_compile_kernels)
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
    Console().print(report.summary())
    spent = sum(phase.bytes or 0 for phase in report.phases)
    per_tree = sum(tree.seconds for tree in report.trees) / max(1, len(report.trees))
    click.echo(
        f"{seconds:.0f} s in all, {per_tree:.2f} s per tree, {human_bytes(spent)} on the wire"
    )
    click.echo(f"report: {target}")
