"""A federation of real processes in one directory: SME firms, a hub, two providers."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedcredit.cli.init import write_federation
from fedcredit.datasets import VerticalData, load
from fedcredit.models.federation import Federation
from fedcredit.node.config import load_config
from fedcredit.node.connect import open_federation
from fedcredit.node.conversation import InstitutionConnection, connect_institution
from fedcredit.node.processes import ManagedProcess, running_federation, start_process

PLATFORM = "platform"
FEDCREDIT = [sys.executable, "-m", "fedcredit"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """The directory of a federation and the processes that run in it."""

    def __init__(self, directory: Path, data: VerticalData) -> None:
        self.directory, self.data = directory, data
        self.running: dict[str, ManagedProcess] = {}

    @property
    def providers(self) -> list[str]:
        return list(self.data.providers)

    def config(self, party: str) -> Path:
        return self.directory / party / f"{party}.toml"

    def state(self, party: str) -> Path:
        return self.directory / party / "state"

    def impatient(self, seconds: float) -> Path:
        """Return a configuration of the platform with a short absence timeout."""
        text = self.config(PLATFORM).read_text() + f"\n[session]\nabsence_timeout = {seconds}\n"
        path = self.config(PLATFORM).with_name("impatient.toml")
        path.write_text(text)
        return path

    def connect(self, config: Path | None = None, **callbacks: Callable[..., None]) -> Federation:
        return open_federation(load_config(config or self.config(PLATFORM)), **callbacks)

    def connect_bank(self, name: str = "bank") -> InstitutionConnection:
        return connect_institution(load_config(self.config(name)))

    @contextlib.contextmanager
    def run(self, *, serve: bool = False) -> Iterator[Site]:
        """Run hub and providers and, with ``serve``, the platform's service."""
        with running_federation(
            self.directory, PLATFORM, self.providers, serve=serve
        ) as self.running:
            yield self

    def start(self, name: str) -> ManagedProcess:
        """Start the hub, a provider or the service, ending one that runs; it need not be ready."""
        if name in self.running:
            self.running[name].stop()
        words = {"hub": ["hub", "start"], PLATFORM: ["serve"]}.get(name, ["party", "start"])
        config = self.config(PLATFORM if name == "hub" else name)
        process = start_process(name, [*words, str(config)], self.directory / f"{name}.log")
        self.running[name] = process
        return process

    def end(self, name: str, number: int = signal.SIGKILL) -> int:
        """End a process by a signal and wait for it; return its code."""
        managed = self.running[name]
        try:
            managed.process.send_signal(number)
            return managed.process.wait(30)
        finally:
            managed.stop()

    def restart(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a process and start it again, not waiting until it is ready."""
        self.end(name, number)
        self.start(name)


def sme_tables(directory: Path, *, rows: int, seed: int) -> tuple[VerticalData, dict[str, Path]]:
    """Write one Parquet file per party; return the data and the files."""
    data = load("sme", n=rows, seed=seed)
    files = {}
    for party, table in data.parties.items():
        files[party] = directory / f"{party}.parquet"
        table.to_parquet(files[party], index=False)
    return data, files


def make_site(
    directory: Path, *, rows: int, seed: int = 1, institutions: Sequence[str] = ()
) -> Site:
    """Write tables, certificates and configurations; start nothing."""
    data, files = sme_tables(directory, rows=rows, seed=seed)
    write_federation(
        directory,
        platform=PLATFORM,
        tables=files,
        label=data.label,
        id_column=data.key,
        id_kind="uscc",
        port=free_port(),
        categorical=data.categorical,
        institutions=institutions,
    )
    return Site(directory, data)
