"""A recorded training, and a role that hears it again, perhaps with changes."""

from __future__ import annotations

import functools

from fedcredit.errors import FedCreditError
from fedcredit.protocols.encrypted_sums import SumClient
from fedcredit.wire import Transcript, run_in_process
from tests.support.joint_gbdt import first_columns, roles


@functools.cache
def conversation():
    """A valid training in the open, message by message, and the keys that it was made with."""
    keys = []
    init = SumClient.__init__

    def keep(self, profile):
        init(self, profile)
        keys.append(self._holder)

    case = first_columns(1, hide_membership=False, precision="packed")
    transcript = Transcript(keep=True)
    SumClient.__init__ = keep
    try:
        run_in_process(roles(case), transcript=transcript)
    finally:
        SumClient.__init__ = init
    down = [r.message for r in transcript.between(sender="platform")]
    up = [r.message for r in transcript.between(sender="tax")]
    return case, keys[0], down, up


def with_keys(self, holder, profile):
    assert holder.profile == profile
    self.profile, self._holder = profile, holder


def replay(session, sender, messages):
    """Deliver the messages one by one; return the error, the result, or None if it waits."""
    try:
        for message in messages:
            for _ in session.outgoing():
                pass
            if session.done:
                break
            session.deliver(sender, message)
        for _ in session.outgoing():
            pass
        return session.result if session.done else None
    except FedCreditError as error:
        return error
    finally:
        if not session.done:
            session.close()
