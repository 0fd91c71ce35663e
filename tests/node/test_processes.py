"""Processes of a federation on one machine: every one is ended and its output closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedcredit.errors import PeerUnavailable
from fedcredit.node import processes
from fedcredit.node.processes import ManagedProcess, running_federation, start_process
from tests.support import site as site_module
from tests.support.site import Site

CODE = "import signal; print('listens, connected', flush=True); signal.pause()"


def start_waiting(name: str, _: object, log: Path) -> ManagedProcess:
    """Start a process that says it is ready and waits for a signal."""
    process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
    return ManagedProcess(name, process, log)


def is_over(managed: ManagedProcess) -> bool:
    return managed.process.poll() is not None and managed.process.stdout.closed


def test_a_process_that_never_gets_ready_leaves_nothing_open(tmp_path: Path):
    managed = start_process("tax", ["--version"], tmp_path / "log")
    with pytest.raises(PeerUnavailable, match="ended with code 0"):
        managed.wait_for_line("connected")
    assert is_over(managed)


def test_an_interrupted_stop_ends_every_process(tmp_path: Path, monkeypatch):
    started: list[ManagedProcess] = []

    def start(name: str, _: object, log: Path) -> ManagedProcess:
        managed = start_waiting(name, _, log)
        started.append(managed)
        if name == "social":
            wait, interruptions = managed.process.wait, [KeyboardInterrupt]

            def interrupted(timeout: float | None = None) -> int:
                if interruptions:
                    raise interruptions.pop()
                return wait(timeout)

            monkeypatch.setattr(managed.process, "wait", interrupted)
        return managed

    monkeypatch.setattr(processes, "start_process", start)
    federation = running_federation(tmp_path, "platform", ["tax", "social"])
    assert list(federation.__enter__()) == ["hub", "tax", "social"]
    with pytest.raises(KeyboardInterrupt):
        federation.__exit__(None, None, None)
    assert all(map(is_over, started))


def test_a_site_ends_the_process_that_it_replaces(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(site_module, "start_process", start_waiting)
    site = Site(tmp_path, None)
    first, second = site.start("tax"), site.start("tax")
    try:
        assert is_over(first)
        assert not is_over(second)

        def never(timeout: float | None = None) -> int:
            monkeypatch.undo()
            raise subprocess.TimeoutExpired("tax", timeout or 0.0)

        monkeypatch.setattr(second.process, "wait", never)
        with pytest.raises(subprocess.TimeoutExpired):
            site.end("tax")
        assert is_over(second)
    finally:
        second.stop()
