"""A provider with the toy engine as a process of its own: ``run_party.py DIR PARTY URI``."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fedcredit.node.certs import load_signing, load_tls
from fedcredit.node.channel import Timeouts
from fedcredit.node.connection import Backoff
from fedcredit.node.party import PartyNode
from tests.node.toy import ToyEngine


def main() -> None:
    faulthandler.enable()
    directory, party, uri = Path(sys.argv[1]) / sys.argv[2], sys.argv[2], sys.argv[3]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    node = PartyNode(
        load_signing(
            party, directory / "signing.pem", directory / "signing.key", directory / "ca.pem"
        ),
        load_tls(party, directory / "tls.pem", directory / "tls.key", directory / "ca.pem"),
        uri,
        ToyEngine(party),
        coordinators=["platform"],
        institutions=["bank"],
        timeouts=Timeouts(idle=30, absence=20, handshake=10, linger=2),
        backoff=Backoff(first=0.02, limit=0.2),
        status_file=directory / "status.json",
        on_event=lambda what, _: print(what, flush=True),
    ).start()
    stop.wait()
    node.stop()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
