"""A federation's certificates, nodes in this process, and nodes as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fedcredit.node.certs import Credentials, TlsMaterial, load_signing, load_tls
from fedcredit.node.channel import Timeouts
from fedcredit.node.connection import Backoff
from fedcredit.node.conversation import InstitutionConnection
from fedcredit.node.hub import Hub
from fedcredit.node.party import PartyNode
from fedcredit.node.pki import PartyFiles, make_federation
from fedcredit.node.remote import RemoteBackend
from tests.node.toy import ToyEngine

PARTIES = ("platform", "tax", "social")
BANK = "bank"
TIMEOUTS = Timeouts(idle=20, absence=15, handshake=10, linger=2)
BACKOFF = Backoff(first=0.02, limit=0.1, refusals=2)
HERE = Path(__file__).parent


class Federation:
    """Certificates of a test federation and whatever was started with them."""

    def __init__(self, directory: Path, files: dict[str, PartyFiles]) -> None:
        self.directory, self.files = directory, files
        self._stops: list[Callable[[], object]] = []

    def tls(self, party: str) -> TlsMaterial:
        f = self.files[party]
        return load_tls(party, f.certificate, f.key, f.ca)

    def signing(self, party: str) -> Credentials:
        f = self.files[party]
        return load_signing(party, f.signing_certificate, f.signing_key, f.ca)

    def later(self, stop: Callable[[], object]) -> None:
        """Call ``stop`` when the test ends; the last one first."""
        self._stops.append(stop)

    def stop(self) -> None:
        while self._stops:
            self._stops.pop()()

    def hub(self, parties: Sequence[str] = PARTIES, **options: object) -> Hub:
        hub = Hub("grpc+tls://127.0.0.1:0", self.tls("platform"), parties, **options)
        self.later(lambda: hub.stop(2.0))
        return hub

    def node(self, party: str, uri: str, engine: object = None, **options: object) -> PartyNode:
        settings = {"coordinators": ["platform"], "timeouts": TIMEOUTS, "backoff": BACKOFF}
        node = PartyNode(
            self.signing(party),
            self.tls(party),
            uri,
            engine or ToyEngine(party),
            **(settings | options),
        ).start()
        self.later(node.stop)
        return node

    def backend(
        self, uri: str, providers: tuple[str, ...] = PARTIES[1:], **options: object
    ) -> RemoteBackend:
        backend = RemoteBackend(
            self.signing("platform"),
            self.tls("platform"),
            uri,
            providers,
            **({"timeouts": TIMEOUTS, "backoff": BACKOFF} | options),
        )
        self.later(backend.close)
        return backend

    def connection(
        self, uri: str, institution: str = BANK, **options: object
    ) -> InstitutionConnection:
        connection = InstitutionConnection(
            self.signing(institution),
            self.tls(institution),
            uri,
            **({"timeouts": TIMEOUTS, "backoff": BACKOFF} | options),
        )
        self.later(connection.close)
        return connection

    def process(self, script: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), str(self.directory), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

        def end() -> None:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()

        self.later(end)
        return process


def uri_of(port: int) -> str:
    return f"grpc+tls://127.0.0.1:{port}"


def read_line(process: subprocess.Popen[str]) -> str:
    """Wait for a line of a process; its end is an error."""
    line = process.stdout.readline()
    assert line, f"the process ended with {process.wait()}"
    return line.strip()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, PartyFiles]]:
    directory = tmp_path_factory.mktemp("federation")
    return directory, make_federation(directory, [*PARTIES, BANK])


@pytest.fixture
def federation(certificates: tuple[Path, dict[str, PartyFiles]]) -> Iterator[Federation]:
    made = Federation(*certificates)
    yield made
    made.stop()
