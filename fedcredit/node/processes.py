"""A whole federation as processes of this machine: hub and providers, started and stopped.

Used by the demonstration and by tests; a real federation starts each process where it belongs.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedcredit.errors import PeerUnavailable

__all__ = ["ManagedProcess", "running_federation", "start_process"]

_STOP_SECONDS = 20.0


@dataclass
class ManagedProcess:
    """One ``fedcredit`` process with its log file."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def wait_for_line(self, text: str) -> None:
        """Read the process's output until a line contains the words ``text``.

        Raises
        ------
        PeerUnavailable
            The process ended before.
        """
        output = self.process.stdout
        assert output is not None
        for line in output:
            if re.search(rf"\b{re.escape(text)}\b", line):  # not "connected" in "disconnected"
                return
        self.process.wait()
        output.close()
        raise PeerUnavailable(
            f"the process of {self.name} ended with code {self.process.returncode}.",
            party=self.name,
            step="start",
            fix=f"read {self.log}",
        )

    def ask_to_stop(self) -> None:
        """Ask the process to end, without waiting for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ask the process to end, end it if it does not, and close its output."""
        try:
            self.ask_to_stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
        finally:
            # Also when the waiting is interrupted: nobody may be left to try again.
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


def start_process(name: str, arguments: Sequence[str], log: Path) -> ManagedProcess:
    """Start ``fedcredit ARGUMENTS...`` with its standard error in ``log``.

    The process runs this very package, wherever it was imported from.
    """
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in path if entry),
        "PYTHONUNBUFFERED": "1",
    }
    errors: IO[str]
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedcredit", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    return ManagedProcess(name, process, log)


@contextlib.contextmanager
def running_federation(
    directory: Path,
    platform: str,
    providers: Sequence[str],
    *,
    serve: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[dict[str, ManagedProcess]]:
    """Run the hub and the providers of a directory that ``fedcredit init`` wrote.

    Parameters
    ----------
    directory : Path
    platform : str
    providers : sequence of str
    serve : bool
        Whether to run the platform's service for institutions too.
    meanwhile : callable
        Called while the providers start, which takes seconds.

    Yields
    ------
    dict of str to ManagedProcess
        ``"hub"``, the providers and, with ``serve``, the platform, all ready.
    """
    running: dict[str, ManagedProcess] = {}

    def config(party: str) -> str:
        return str(directory / party / f"{party}.toml")

    try:
        running["hub"] = start_process(
            "hub", ["hub", "start", config(platform)], directory / "hub.log"
        )
        for party in providers:
            running[party] = start_process(
                party, ["party", "start", config(party)], directory / f"{party}.log"
            )
        if serve:
            running[platform] = start_process(
                platform, ["serve", config(platform)], directory / f"{platform}.log"
            )
        running["hub"].wait_for_line("listens")
        meanwhile()
        for party, process in running.items():
            if party != "hub":
                process.wait_for_line("connected")
        yield running
    finally:
        with contextlib.ExitStack() as stops:  # the last one first, whatever happens to another
            for process in running.values():
                stops.callback(process.stop)
            for name, process in running.items():
                if name != "hub":
                    process.ask_to_stop()
