"""Measure private alignment between two processes over a TCP socket.

    python -m benchmarks.align --ids 1000000
    python -m benchmarks.align --ids 1000000 --platform-ids 1000 --strategy cached

Both parties run the protocol's own roles in a `Session`; every message goes through the Arrow
codec and a signed envelope. The parties share half of the smaller set. A small run comes first, so
that compiled code is loaded; only the second run is measured. The result is checked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import socket
import time
from multiprocessing.connection import Connection

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.link import Node, accept, free_port
from fedcredit.protocols.align_cached import KnownLists, TagCache
from fedcredit.protocols.align_many import align_platform, align_provider
from fedcredit.wire import Peers, Transcript, new_session

NAMES = ("platform", "tax")


def make_ids(count: int, first: int) -> list[bytes]:
    return [b"91%016d" % number for number in range(first, first + count)]


def party(name: str, port: int, sizes: tuple[int, int], strategy: str, control: Connection) -> None:
    """Be one party: warm up, then align and report figures to the parent."""
    peer = NAMES[1 - NAMES.index(name)]
    connected = (
        socket.create_connection(("127.0.0.1", port)) if name == "tax" else accept(port, control)
    )
    node = Node(name, {peer: connected})
    control.send_bytes(node.identity.public_key.public_bytes_raw())
    peer_key = Ed25519PublicKey.from_public_bytes(control.recv_bytes())
    figures = {}
    for small in (True, False):
        n_platform, n_provider = (200, 200) if small else sizes
        shared = min(n_platform, n_provider) // 2
        if name == "platform":
            ids = make_ids(n_platform, 0)
        else:
            ids = make_ids(n_provider, n_platform - shared)
        session = control.recv_bytes()
        cache, prepared = None, 0.0
        if strategy == "cached" and name == "tax":
            started = time.perf_counter()
            cache = TagCache.build(ids, capacity=max(1 << 16, n_platform))
            prepared = time.perf_counter() - started
        control.send_bytes(b"ready")
        control.recv_bytes()
        transcript = Transcript()
        cpu, wall = time.process_time(), time.perf_counter()
        peers = Peers([peer])
        if name == "platform":
            role = align_platform(
                peers, ids, strategy=strategy, floor=1, session=session, known=KnownLists()
            )
        else:
            role = align_provider(
                peers, peer, [], ids, strategy=strategy, floor=1, session=session, cache=cache
            )
        rows = node.drive(role, session, {peer: peer_key}, transcript)
        figures = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "sent": sum(k.bytes for k in transcript.sent_by(name).values()),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "prepared": prepared,
        }
        first = 0 if name == "platform" else n_platform - shared
        # The common order must be the same at both parties: the parent compares.
        result = {"figures": figures, "order": (rows + first).tolist(), "shared": shared}
        control.send_bytes(json.dumps(result).encode())
    node.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=100_000, help="ids at the provider")
    parser.add_argument("--platform-ids", type=int, help="ids at the platform (default: --ids)")
    parser.add_argument("--strategy", default="private", choices=("private", "cached"))
    options = parser.parse_args()
    sizes = (options.platform_ids or options.ids, options.ids)
    context = multiprocessing.get_context("spawn")
    port = free_port()
    controls, processes = {}, []
    for name in NAMES:
        controls[name], child = context.Pipe()
        process = context.Process(target=party, args=(name, port, sizes, options.strategy, child))
        process.start()
        processes.append(process)
        if name == "platform":
            controls[name].recv_bytes()
    keys = {name: controls[name].recv_bytes() for name in NAMES}
    controls["platform"].send_bytes(keys["tax"])
    controls["tax"].send_bytes(keys["platform"])
    for _ in range(2):
        session = new_session()
        for name in NAMES:
            controls[name].send_bytes(session)
        for name in NAMES:
            controls[name].recv_bytes()
        for name in NAMES:
            controls[name].send_bytes(b"go")
        results = {name: json.loads(controls[name].recv_bytes()) for name in NAMES}
    for process in processes:
        process.join()
    up, down = (results[name]["figures"] for name in NAMES)
    order, other = (results[name]["order"] for name in NAMES)
    shared = results["platform"]["shared"]
    assert order == other
    assert len(set(order)) == shared
    print(f"{options.strategy}: {sizes[0]} x {sizes[1]} ids, {shared} common, same order: yes")
    if down["prepared"]:
        print(f"tag list built once per key: {down['prepared']:.2f} s")
    print(f"wall {max(up['wall'], down['wall']):.2f} s")
    for name, figures in (("platform", up), ("provider", down)):
        print(
            f"{name:9} CPU {figures['cpu']:.2f} s, sent {figures['sent'] / 1e6:.1f} MB, "
            f"peak memory {figures['peak'] / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
