"""What a party tells the institution besides its part of a score, sealed for it alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.errors import PeerProtocolError

__all__ = ["PrivateNote"]

_STEP = "open the notes of the parties"
#: Notes are padded to a multiple of this per enterprise with reasons, so lengths tell nothing.
_BYTES_PER_ROW = 512
_MAX_LABEL = 100
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PrivateNote:
    """As-of date, who has no record, and reasons.

    Attributes
    ----------
    as_of : str
    no_record : ndarray of int64
        Places in the request of the enterprises that this party does not know.
    reasons : tuple, one per enterprise
        Of (label, severity 1 to 3): points lost, in steps of half the points that double the
        odds, 3 for more than one doubling. Empty if none were asked for.
    """

    as_of: str
    no_record: Integers = field(repr=False)
    reasons: tuple[tuple[tuple[str, int], ...], ...] = field(default=(), repr=False)

    def pack(self, n: int) -> bytes:
        """Return the note of a request about ``n`` enterprises; its length depends on n alone."""
        gone = np.zeros(n, np.bool_)
        gone[self.no_record] = True
        data = json.dumps(
            {
                "as_of": self.as_of,
                "gone": np.packbits(gone).tobytes().hex(),
                "reasons": [
                    [[label[:_MAX_LABEL], severity] for label, severity in row]
                    for row in self.reasons
                ],
            },
            separators=(",", ":"),
        ).encode()
        width = 256 + n // 4 + (_BYTES_PER_ROW * n if self.reasons else 0)
        return data.ljust(width)

    @classmethod
    def unpack(cls, data: bytes, n: int, *, party: str) -> PrivateNote:
        """Read what :meth:`pack` wrote.

        Raises
        ------
        PeerProtocolError
            It is something else.
        """
        try:
            plain = json.loads(data)
            gone = np.unpackbits(np.frombuffer(bytes.fromhex(plain["gone"]), np.uint8))[:n]
            reasons = tuple(
                tuple((str(label)[:_MAX_LABEL], int(severity)) for label, severity in row)
                for row in plain["reasons"]
            )
            if len(gone) != n or len(reasons) not in (0, n):
                raise ValueError
            return cls(str(plain["as_of"])[:40], np.flatnonzero(gone), reasons)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise PeerProtocolError("a note is malformed.", party=party, step=_STEP) from None
