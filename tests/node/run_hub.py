"""A hub as a process of its own: ``run_hub.py DIR PORT PARTY...``; prints its port."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fedcredit.node.certs import load_tls
from fedcredit.node.hub import Hub


def main() -> None:
    directory, port, parties = Path(sys.argv[1]) / "platform", sys.argv[2], sys.argv[3:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    tls = load_tls("platform", directory / "tls.pem", directory / "tls.key", directory / "ca.pem")
    hub = Hub(f"grpc+tls://127.0.0.1:{port}", tls, parties)
    print(hub.port, flush=True)
    stop.wait()
    hub.stop()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
