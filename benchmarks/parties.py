"""Parties in processes of their own, each linked to each over TCP, that work through cases.

A `Work` is what one party does for a case; it runs twice in every process, first on the warm-up
case, which loads compiled code, then on the measured one. The label holder opens the sessions: it
waits until the providers are ready, so no clock runs while they make their data.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.link import Node
from fedcredit.models.backend import Role
from fedcredit.wire import Peers, Transcript, new_session

LABEL = "platform"

#: What one party does for a case, and the figures that it reports.
Work = Callable[["Party", Any], dict[str, Any]]
#: The session of a call and the providers in it.
Call = tuple[bytes, tuple[str, ...]]


@dataclass
class Span:
    """What a stretch of work cost one party; the clock is that of the machine."""

    begin: float = 0.0
    end: float = 0.0
    cpu: float = 0.0
    sent: dict[str, int] = field(default_factory=dict)


class Party:
    """One process: its node, and a control pipe to every provider or to the label holder."""

    def __init__(
        self,
        node: Node,
        names: Sequence[str],
        keys: Mapping[str, Ed25519PublicKey],
        control: Mapping[str, Connection],
    ) -> None:
        self.name = node.party
        self.providers = tuple(name for name in names if name != LABEL)
        self._node, self._keys, self._control = node, keys, control
        self._ready: set[str] = set()
        self._transcript = Transcript()

    @property
    def others(self) -> tuple[str, ...]:
        """The peers of a provider, the label holder first."""
        return (LABEL, *(name for name in self.providers if name != self.name))

    # ------------------------------------------------------------------ the label holder

    def wait(self, names: Sequence[str] | None = None) -> None:
        """Wait until providers are ready for the next session."""
        for name in self.providers if names is None else names:
            if name not in self._ready:
                self._control[name].recv()
                self._ready.add(name)

    def open(
        self, role: Any, names: Sequence[str] | None = None, transcript: Transcript | None = None
    ) -> Any:
        """Run the label holder's role of one session with some of the providers."""
        chosen = self.providers if names is None else tuple(names)
        self.wait(chosen)
        session = new_session()
        for name in chosen:
            self._control[name].send((session, chosen))
        self._ready -= set(chosen)
        record = Transcript()
        result = self._node.drive(role, session, self._keys, record)
        for target in (self._transcript, *([] if transcript is None else [transcript])):
            target.merge(record.counts)
        return result

    def dismiss(self) -> None:
        """Tell providers that wait for another session that none follows in this case."""
        self.wait()
        for name in self.providers:
            self._control[name].send(None)
        self._ready.clear()

    # ---------------------------------------------------------------------- a provider

    def called(self) -> Call | None:
        """Be ready and wait for a session; None after the last one."""
        self._control[LABEL].send("ready")
        call: Call | None = self._control[LABEL].recv()
        return call

    def answer(self, role: Any, call: Call) -> Any:
        """Run a provider's role of one session."""
        return self._node.drive(role, call[0], self._keys, self._transcript)

    def answer_once(self, make: Callable[[bytes], Any]) -> Span:
        """Run one session, whose role ``make`` gives from its identifier, and return its cost."""
        call = self.called()
        if call is None:
            raise RuntimeError("a session was expected")
        with self.measured() as span:
            self.answer(make(call[0]), call)
        return span

    # ---------------------------------------------------------------------------- both

    @contextmanager
    def measured(self) -> Iterator[Span]:
        """Measure seconds, CPU and bytes sent to each party."""
        span, self._transcript = Span(), Transcript()
        span.begin, cpu = time.monotonic(), time.process_time()
        yield span
        span.end, span.cpu = time.monotonic(), time.process_time() - cpu
        for (sender, recipient, _), entry in self._transcript.counts.items():
            if sender == self.name:
                span.sent[recipient] = span.sent.get(recipient, 0) + entry.bytes


class TcpBackend:
    """Runs the sessions of a `Federation` between these processes."""

    def __init__(self, party: Party) -> None:
        self.coordinator = party.name
        self.providers = party.providers
        self._party = party

    def run(
        self,
        role: Role[Any],
        *,
        providers: Sequence[str] | None = None,
        job: str,
        transcript: Transcript,
    ) -> Any:
        """Run one session and return the coordinator's result."""
        names = self.providers if providers is None else tuple(providers)
        return self._party.open(role(Peers(names)), names, transcript)

    def close(self) -> None:
        """Leave the connections to the process."""


# ------------------------------------------------------------------------------- processes


def link_up(name: str, names: Sequence[str], pipe: Connection) -> dict[str, socket.socket]:
    """Connect to every party before this one and take a connection from every one after it."""
    place = names.index(name)
    with socket.create_server(("127.0.0.1", 0), backlog=len(names)) as server:
        pipe.send(server.getsockname()[1])
        ports = pipe.recv()
        sockets = {}
        for other in names[:place]:
            sockets[other] = socket.create_connection(("127.0.0.1", ports[other]))
            sockets[other].sendall(bytes([place]))
        for _ in names[place + 1 :]:
            accepted, _ = server.accept()
            sockets[names[accepted.recv(1)[0]]] = accepted
    return sockets


def be_party(
    name: str,
    names: Sequence[str],
    works: tuple[Work, Work],
    cases: Sequence[Any],
    pipe: Connection,
    control: Mapping[str, Connection],
) -> None:
    """Be one party for the warm-up and the measured case."""
    try:
        node = Node(name, link_up(name, names, pipe))
        pipe.send(node.identity.public_key.public_bytes_raw())
        keys = {
            other: Ed25519PublicKey.from_public_bytes(raw) for other, raw in pipe.recv().items()
        }
        party = Party(node, names, keys, control)
        work = works[0] if name == LABEL else works[1]
        for case in cases:
            figures = work(party, case)
        figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send(figures)
        # Stay until all are done: a link that closes ends the sessions of the others.
        pipe.recv()
        node.close()
    except Exception:
        pipe.send(RuntimeError(f"{name} failed:\n{traceback.format_exc()}"))


def run_parties(
    names: Sequence[str], works: tuple[Work, Work], cases: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """Run the label holder's and the providers' work and return each party's figures.

    The label holder is the first of ``names``. ``works`` are functions of a module, hers first.
    """
    context = multiprocessing.get_context("spawn")
    pairs = {name: context.Pipe() for name in names[1:]}
    controls: dict[str, dict[str, Connection]] = {
        LABEL: {name: pair[0] for name, pair in pairs.items()}
    }
    controls |= {name: {LABEL: pair[1]} for name, pair in pairs.items()}
    pipes: dict[str, Connection] = {}
    processes = []
    for name in names:
        pipes[name], child = context.Pipe()
        process = context.Process(
            target=be_party, args=(name, tuple(names), works, cases, child, controls[name])
        )
        process.start()
        child.close()
        processes.append(process)
    for control in controls.values():
        for end in control.values():
            end.close()
    try:
        for _ in ("ports", "public keys"):
            said = {name: _received(pipe) for name, pipe in pipes.items()}
            for pipe in pipes.values():
                pipe.send(said)
        results = _gathered(pipes)
        for pipe in pipes.values():
            pipe.send("done")
        for process in processes:
            process.join()
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    return results


def _gathered(pipes: Mapping[str, Connection]) -> dict[str, dict[str, Any]]:
    """Receive from whoever is ready first, so that the first failure is the one reported."""
    waiting = {pipe: name for name, pipe in pipes.items()}
    results = {}
    while waiting:
        for ready in multiprocessing.connection.wait(list(waiting)):
            assert isinstance(ready, Connection)
            results[waiting.pop(ready)] = _received(ready)
    return results


def _received(pipe: Connection) -> Any:
    try:
        said = pipe.recv()
    except EOFError:
        raise RuntimeError("a party's process ended") from None
    if isinstance(said, Exception):
        raise said
    return said


# --------------------------------------------------------------------------------- figures


def costs(spans: Mapping[str, Span], peaks: Mapping[str, float]) -> dict[str, Any]:
    """Put the parties' spans together: wall from the first begin to the last end, CPU, bytes."""
    providers = [name for name in spans if name != LABEL]
    return {
        "seconds": max(s.end for s in spans.values()) - min(s.begin for s in spans.values()),
        "label_cpu_s": spans[LABEL].cpu,
        "provider_cpu_s": [spans[name].cpu for name in providers],
        "up_mb": sum(spans[LABEL].sent.values()) / 1e6,
        "down_mb": sum(spans[name].sent.get(LABEL, 0) for name in providers) / 1e6,
        "across_mb": sum(
            n_bytes
            for name in providers
            for recipient, n_bytes in spans[name].sent.items()
            if recipient != LABEL
        )
        / 1e6,
        "label_peak_mb": peaks[LABEL] / 1e6,
        "provider_peak_mb": [peaks[name] / 1e6 for name in providers],
    }


def machine() -> dict[str, Any]:
    """Facts about this machine."""
    processor = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
        processor = models[0] if models else processor
    return {
        "cores": os.cpu_count(),
        "processor": processor,
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "system": platform.system(),
        "python": platform.python_version(),
    }
