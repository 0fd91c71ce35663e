"""The start of a session of :mod:`fedcredit.protocols.scoring`: keys of every member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedcredit.crypto.encscore import ScoreEncryptor, ScoreKeyHolder
from fedcredit.crypto.encscore_features import OwnFeatureHolder, OwnFeatureScorer
from fedcredit.errors import CryptoError, PeerProtocolError
from fedcredit.protocols.scoring_keys import ServiceKeys, agree_service_keys
from fedcredit.protocols.scoring_messages import PROTOCOL, ServiceHello
from fedcredit.wire import Peers

__all__ = ["InstitutionSide", "PartySide", "start_institution", "start_party"]


@dataclass(frozen=True, eq=False)
class InstitutionSide:
    """What the institution keeps during a session; has secrets, so no pickle.

    Attributes
    ----------
    keys : ServiceKeys
    holder : ScoreKeyHolder
    own : OwnFeatureHolder or None
        The key of its own features, where the session has one.
    """

    keys: ServiceKeys
    holder: ScoreKeyHolder
    own: OwnFeatureHolder | None


@dataclass(frozen=True, eq=False)
class PartySide:
    """What the platform or a provider keeps during a session; has secrets, so no pickle.

    Attributes
    ----------
    keys : ServiceKeys
    encryptor : ScoreEncryptor
    own : OwnFeatureScorer or None
        At the platform, where the institution has features of its own.
    """

    keys: ServiceKeys
    encryptor: ScoreEncryptor
    own: OwnFeatureScorer | None


async def start_institution(
    peers: Peers,
    me: str,
    *,
    platform: str,
    providers: Sequence[str],
    session: bytes,
    own_features: bool = False,
) -> InstitutionSide:
    """Begin a session at the institution: agree on keys, publish fresh encryption keys.

    Parameters
    ----------
    peers : Peers
        The platform and every provider.
    me, platform : str
        Names.
    providers : sequence of str
        All that requests of this session may name.
    session : bytes
        The session's name, the same at every member.
    own_features : bool
        Whether the institution will send encrypted features of its own.

    Raises
    ------
    InputError
        If the names are not different members of this session.
    PeerProtocolError
        If a peer does not follow the protocol.
    """
    keys = await agree_service_keys(
        peers, me, institution=me, platform=platform, providers=providers, session=session
    )
    holder = ScoreKeyHolder.generate()
    own = OwnFeatureHolder.generate() if own_features else None
    hello = ServiceHello(PROTOCOL, holder.public, b"")
    await peers[platform].send(replace(hello, own=own.public if own is not None else b""))
    for name in keys.providers:
        await peers[name].send(hello)
    return InstitutionSide(keys, holder, own)


async def start_party(
    peers: Peers,
    me: str,
    *,
    institution: str,
    platform: str,
    providers: Sequence[str],
    session: bytes,
) -> PartySide:
    """Begin a session at the platform or a provider; see :func:`start_institution`.

    Raises
    ------
    InputError
        If the names are not different members of this session.
    PeerProtocolError
        If a peer does not follow the protocol, or the institution has another version or sends
        a key that cannot be read.
    """
    keys = await agree_service_keys(
        peers, me, institution=institution, platform=platform, providers=providers, session=session
    )
    hello = await peers[institution].recv(ServiceHello)
    if hello.protocol != PROTOCOL:
        raise PeerProtocolError(
            "the institution speaks another version of the scoring protocol.",
            party=institution,
            step="start of the scoring session",
            fix="run the same release of fedcredit at every party",
        )
    try:
        own = OwnFeatureScorer(hello.own) if hello.own and me == platform else None
        return PartySide(keys, ScoreEncryptor(hello.public), own)
    except CryptoError as error:
        raise PeerProtocolError(
            error.reason, party=institution, step="start of the scoring session", fix=error.fix
        ) from None
