"""Parties of an alignment in one process, and a driver that runs every one to its end."""

import numpy as np

from fedcredit import errors
from fedcredit.protocols.align_many import align_platform, align_provider
from fedcredit.wire import Abort, Peers, Session, decode, encode

SESSION = b"alignment of test sets, number 1"
NAMES = ("tax", "social_security", "housing")
STRATEGIES = ("private", "pairwise", "cached")


def uscc(*numbers):
    return [b"91440300MA5%07d" % number for number in numbers]


def roles(platform, *providers, strategy="private", floor=1, floors=None, caches=None, known=None):
    """The coroutines of all parties, by name."""
    names = NAMES[: len(providers)]
    floors = floors or {}
    made = {
        "platform": align_platform(
            Peers(names),
            platform,
            strategy=strategy,
            floor=floors.get("platform", floor),
            session=SESSION,
            known=known,
        )
    }
    for name, ids in zip(names, providers, strict=True):
        others = [other for other in names if other != name]
        made[name] = align_provider(
            Peers(["platform", *others]),
            "platform",
            others,
            ids,
            strategy=strategy,
            floor=floors.get(name, floor),
            session=SESSION,
            cache=(caches or {}).get(name),
        )
    return made


def outcome(made, tamper=None):
    """Run every role to its end; return per party its rows or the error that it met.

    ``tamper(sender, message)`` may replace a message on its way. A failing party's peers get the
    abort that the transport would send them.
    """
    sessions = {name: Session(role, party=name) for name, role in made.items()}
    ends = {}

    def step(name):
        try:
            for recipient, message in sessions[name].outgoing():
                if tamper is not None:
                    message = tamper(name, message) or message
                if recipient not in ends:
                    sessions[recipient].deliver(name, decode(encode(message)))
                return True
        except errors.FedCreditError as error:
            ends[name] = error
            for other, session in sessions.items():
                if other not in ends and not session.done:
                    session.deliver(name, Abort.of(error, party=name))
            return True
        if sessions[name].done and name not in ends:
            ends[name] = sessions[name].result
            return True
        return False

    while len(ends) < len(sessions):
        moved = [step(name) for name in sessions if name not in ends]
        assert any(moved), "every role waits"
    return ends


def check_aligned(results, platform, *providers):
    common = set(platform).intersection(*map(set, providers))
    order = [platform[row] for row in results["platform"]]
    assert len(order) == len(common)
    assert set(order) == common
    for name, ids in zip(NAMES, providers, strict=False):
        assert results[name].dtype == np.int64
        assert [ids[row] for row in results[name]] == order
    return order


# The platform and three providers, in different orders and sizes; six ids are common to all.
SETS = (
    uscc(*range(40)),
    uscc(*range(50, 9, -1)),
    uscc(*range(20, 100)),
    uscc(5, *range(25, 33), 7, 3),
)
