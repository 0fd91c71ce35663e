"""What a terminal shows of a federation's sessions."""

from __future__ import annotations

import io
import re
import threading
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from fedcredit.cli import bars
from fedcredit.cli.bars import federation_bars
from fedcredit.models.federation import Federation
from fedcredit.node.presence import Presence
from fedcredit.node.remote import Event
from fedcredit.wire import Transcript


class Backend:
    """What a federation over real nodes offers; the test says what happens."""

    coordinator, providers = "platform", ("tax", "customs")

    def __init__(self, serving: tuple[str, ...] = providers) -> None:
        self.on_event = self.on_message = None
        presence = Presence()
        online = [{"party": name, "boot": "00" * 16, "serving": True} for name in serving]
        presence.update({"event": "welcome", "online": online})
        self.presence = presence
        self.link = SimpleNamespace(
            sessions=SimpleNamespace(lock=threading.RLock(), presence=presence)
        )
        self.told: list[str] = []

    def tell(self, kind: str, job: str, text: str = "") -> None:
        self.on_event(Event(kind, job, None, text))

    def run(self, role, *, providers, job: str, transcript: Transcript):
        return role(transcript)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(bars, "CONSOLE", console)
    return written


def frames(screen: io.StringIO) -> list[str]:
    """Return the states of all lines, without control sequences."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", screen.getvalue())
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def test_a_training_and_an_alignment(screen: io.StringIO):
    backend = Backend()
    federation = Federation(backend, pd.DataFrame({"uscc": ["a"] * 50}))
    backend.on_event = lambda event: backend.told.append(event.kind)

    def session(transcript: Transcript) -> None:
        backend.tell("waiting", "train-00", "for tax, customs")
        backend.tell("opened", "train-00")
        backend.on_message()
        for done in range(1, 5):
            federation.on_progress("train", done, 4)
        backend.tell("finished", "train-00")

    def alignment(transcript: Transcript) -> None:
        backend.tell("waiting", "align-00", "for tax, customs")
        backend.tell("opened", "align-00")
        for step in (1, 2, 1, 2):  # one pass per provider
            federation.on_progress("align: columns", step, 2)
        backend.tell("finished", "align-00")

    with federation_bars(federation, show=True):
        federation.run(session, job="train-00", phase="train")
        federation.run(alignment, job="align-00", phase="align")
    lines = frames(screen)
    assert any("✓ train" in line and "4/4 trees" in line for line in lines)
    assert any("✓ align" in line and "100/100 rows" in line for line in lines)
    # Whoever listened before still does, and does again afterwards.
    assert backend.told == ["waiting", "opened", "finished"] * 2
    assert backend.on_message is None


@pytest.mark.parametrize(
    ("serving", "hub", "told"),
    [
        (("customs",), True, "train: waiting for tax"),
        ((), True, "train: waiting for tax, customs"),
        (("tax", "customs"), False, "train: waiting for the hub"),
    ],
)
def test_whoever_is_away_is_named(screen: io.StringIO, serving, hub: bool, told: str):
    backend = Backend(serving)
    federation = Federation(backend, pd.DataFrame({"uscc": ["a"]}))
    if not hub:
        backend.presence.disconnected()

    with federation_bars(federation, show=True):
        backend.tell("waiting", "train-00", "for tax, customs")
    assert any(told + " ━" in line for line in frames(screen))


def test_nothing_is_shown_without_providers_or_a_terminal(screen: io.StringIO):
    backend = Backend()
    federation = Federation(backend, pd.DataFrame({"uscc": ["a"]}))

    def session(providers: str):
        def run(transcript: Transcript) -> None:
            backend.tell("waiting", "train-00", f"for {providers}")
            backend.tell("opened", "train-00")
            federation.on_progress("train", 1, 1)
            backend.tell("finished", "train-00")

        return run

    with federation_bars(federation, show=True):
        federation.run(session(""), job="train-00", phase="train")
    with federation_bars(federation, show=False):
        federation.run(session("tax"), job="train-00", phase="train")
    assert screen.getvalue() == ""


def test_a_failure_leaves_the_line_as_it_was(screen: io.StringIO):
    backend = Backend()
    federation = Federation(backend, pd.DataFrame({"uscc": ["a"]}))

    def session(transcript: Transcript) -> None:
        backend.tell("waiting", "train-00", "for tax")
        backend.tell("opened", "train-00")
        federation.on_progress("train", 1, 4)
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError), federation_bars(federation, show=True):
        federation.run(session, job="train-00", phase="train")
    assert "✓" not in screen.getvalue()
    assert "1/4 trees" in frames(screen)[-1]
