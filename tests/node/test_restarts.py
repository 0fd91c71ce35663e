"""Hub and parties as processes of their own, killed in the middle of a session."""

from __future__ import annotations

import signal

import pytest

from fedcredit.node.channel import Timeouts
from fedcredit.wire import Transcript
from tests.node.conftest import PARTIES, Federation, read_line, uri_of
from tests.node.toy import ping

ROUNDS = 30


def _processes(federation: Federation):
    hub = federation.process("run_hub.py", 0, *PARTIES)
    uri = uri_of(int(read_line(hub)))
    parties = {name: federation.process("run_party.py", name, uri) for name in ("tax", "social")}
    for process in parties.values():
        assert read_line(process) == "connected"
    return hub, uri, parties


def test_killed_hub_and_killed_party(federation: Federation):
    hub, uri, parties = _processes(federation)
    port = uri.rpartition(":")[2]
    events: list[tuple[str, str | None]] = []
    backend = federation.backend(
        uri,
        timeouts=Timeouts(idle=30, absence=20, handshake=10, linger=3),
        on_event=lambda event: events.append((event.kind, event.party)),
    )

    # 1. The hub is killed and started again twice: the same session goes on, and every message
    #    arrives once (the roles count rounds, the transcript counts messages).
    def kill_hub(i: int) -> None:
        nonlocal hub
        if i in (5, 15):
            hub.kill()
            hub.wait()
            hub = federation.process("run_hub.py", port, *PARTIES)
            assert read_line(hub) == port

    transcript = Transcript()
    total = backend.run(
        lambda p: ping(p, rounds=ROUNDS, up=200_000, down=300_000, mode="ring", each=kill_hub),
        job="hub",
        transcript=transcript,
    )
    assert total == ROUNDS * (ROUNDS + 1)
    kinds = [kind for kind, _ in events]
    assert kinds.count("opened") == 1
    assert kinds.count("disconnected") >= 2
    assert transcript.counts["tax", "platform", "toy.ping"].messages == ROUNDS
    assert transcript.counts["platform", "tax", "toy.ping"].messages == ROUNDS

    # 2. A party is killed and started again: its session is lost, the coordinator opens another
    #    one, whose fresh role resumes at the checkpoint.
    checkpoint = [0]
    events.clear()

    def kill_party(i: int) -> None:
        checkpoint[0] += 1
        if checkpoint[0] == 10:
            parties["tax"].kill()
            parties["tax"].wait()
            parties["tax"] = federation.process("run_party.py", "tax", uri)
            assert read_line(parties["tax"]) == "connected"

    backend.run(
        lambda p: ping(p, rounds=ROUNDS - checkpoint[0], up=10, down=10, each=kill_party),
        job="party",
        transcript=Transcript(),
    )
    assert checkpoint[0] == ROUNDS
    assert ("lost", "tax") in events
    assert [kind for kind, _ in events].count("opened") == 2

    # 3. SIGTERM ends a party and the hub cleanly.
    for process in (parties["social"], hub):
        process.send_signal(signal.SIGTERM)
        while read_line(process) != "stopped":
            pass
        assert process.wait(10) == 0


@pytest.mark.parametrize("attempts", [1, 2])
def test_attempts_are_bounded(federation: Federation, attempts: int):
    from fedcredit.errors import PeerUnavailable

    hub = federation.hub()
    uri = uri_of(hub.port)
    nodes = [federation.node("tax", uri)]
    opened = []

    def restart(i: int) -> None:
        opened.append(i)
        nodes[-1].stop()
        nodes.append(federation.node("tax", uri))

    backend = federation.backend(uri, ("tax",), max_attempts=attempts)
    with pytest.raises(PeerUnavailable, match=f"lost {attempts} times"):
        backend.run(
            lambda p: ping(p, rounds=5, up=1, down=1, each=restart),
            job="s",
            transcript=Transcript(),
        )
    assert len(opened) == attempts
