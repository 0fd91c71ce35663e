"""Roles know the keys of their peers, as the session authenticated them."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.wire import Peers, Transcript
from tests.node.conftest import BANK, PARTIES, Federation, uri_of
from tests.node.toy import ToyEngine, asking, ping


def raw(key: Ed25519PublicKey | None) -> bytes | None:
    return None if key is None else key.public_bytes_raw()


class Curious(ToyEngine):
    """Notes the keys of its peers."""

    def __init__(self, party: str, found: dict[tuple[str, str], bytes | None]) -> None:
        super().__init__(party)
        self._found = found

    def _look(self, peers: Peers) -> None:
        for name, peer in peers.items():
            self._found[self.party, name] = raw(peer.key)

    async def serve_institution(self, peers: Peers, institution: str) -> str:
        self._look(peers)
        return await super().serve_institution(peers, institution)

    async def serve(self, peers: Peers, coordinator: str) -> str:
        self._look(peers)
        return await super().serve(peers, coordinator)


def certified(federation: Federation, *pairs: tuple[str, str]) -> dict[tuple[str, str], bytes]:
    keys = {
        name: federation.signing(name).identity.public_key.public_bytes_raw()
        for name in (*PARTIES, BANK)
    }
    return {(me, other): keys[other] for me, other in pairs}


def test_in_a_session_of_an_institution(federation: Federation):
    found: dict[tuple[str, str], bytes | None] = {}
    uri = uri_of(federation.hub((*PARTIES, BANK)).port)
    for name in PARTIES:
        federation.node(name, uri, Curious(name, found), institutions=[BANK])
    with federation.connection(uri).open(PARTIES) as conversation:

        async def role(peers: Peers) -> int:
            found.update({(BANK, name): raw(peer.key) for name, peer in peers.items()})
            return await asking(1)(peers)

        conversation.run(role)
    everybody = (BANK, *PARTIES)
    pairs = [(me, other) for me in everybody for other in everybody if me != other]
    assert found == certified(federation, *pairs)


def test_in_a_job_of_the_platform(federation: Federation):
    found: dict[tuple[str, str], bytes | None] = {}
    uri = uri_of(federation.hub().port)
    providers = PARTIES[1:]
    for name in providers:
        federation.node(name, uri, Curious(name, found))

    async def role(peers: Peers) -> int:
        found.update({("platform", name): raw(peer.key) for name, peer in peers.items()})
        return await ping(peers, rounds=1, up=1, down=1)

    federation.backend(uri).run(role, job="toy", transcript=Transcript())
    pairs = [(me, other) for me in PARTIES for other in PARTIES if me != other]
    assert found == certified(federation, *pairs)
