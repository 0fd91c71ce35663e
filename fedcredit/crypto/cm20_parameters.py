"""The shape of the bit matrix of the Chase-Miao OPRF.

With ``n_R`` ids of the receiver in ``m`` rows, a given position of a column is still 1 with
probability ``p = (1 − 1/m)^n_R``. A foreign id of the sender must meet at least 128 ones among its
``w`` positions, so ``m`` and ``w`` are chosen such that (section 3.2 of ePrint 2020/729)

    n_S · P[Binomial(w, p) < 128] ≤ 2^-40.

At one million ids on either side that gives 2^20 rows and 589 columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import bdtr

from fedcredit.errors import ParameterError

__all__ = ["COMPUTATIONAL_BITS", "STATISTICAL_BITS", "Cm20Parameters"]

COMPUTATIONAL_BITS = 128
STATISTICAL_BITS = 40

_MIN_LOG_ROWS = 6
_MAX_LOG_ROWS = 28
_MAX_WIDTH = 4096
# A block's output bits of one id fill one byte, so a block has at most 8 columns.
_MAX_PER_HALF = 4
# About what one message carries.
_GROUP_BYTES = 1 << 20
# Peers may round the tail probability differently; the chooser stays this much on the safe side.
_ROUNDING_BITS = 1e-6


@dataclass(frozen=True)
class Cm20Parameters:
    """The shape of the bit matrix.

    Parameters
    ----------
    log_rows : int
        The matrix has ``m = 2**log_rows`` rows, 6 to 28.
    width : int
        The number of columns ``w``, which is also the number of base OTs, 128 to 4096.

    Raises
    ------
    ParameterError
        If a value is out of range.
    """

    log_rows: int
    width: int

    def __post_init__(self) -> None:
        if not _MIN_LOG_ROWS <= self.log_rows <= _MAX_LOG_ROWS:
            raise ParameterError("the OPRF matrix must have 2^6 to 2^28 rows.")
        if not COMPUTATIONAL_BITS <= self.width <= _MAX_WIDTH:
            raise ParameterError("the OPRF matrix must have 128 to 4096 columns.")

    @classmethod
    def choose(cls, n_receiver: int, n_sender: int) -> Cm20Parameters:
        """Choose the matrix with the fewest bits that is secure for two set sizes.

        Parameters
        ----------
        n_receiver, n_sender : int
            Ids of either side, 1 or more.

        Returns
        -------
        Cm20Parameters

        Raises
        ------
        ParameterError
            If a size is not positive or too large for the supported matrices.
        """
        if n_receiver < 1 or n_sender < 1:
            raise ParameterError("the OPRF needs at least one id on either side.")
        about = max(_MIN_LOG_ROWS, (n_receiver - 1).bit_length())
        found = [
            cls(log_rows, width)
            for log_rows in range(max(_MIN_LOG_ROWS, about - 1), min(_MAX_LOG_ROWS, about + 2) + 1)
            if (width := _narrowest(n_receiver, n_sender, log_rows)) is not None
        ]
        if not found:
            raise ParameterError(
                "the sets are too large for one run of the OPRF.",
                fix="align the sets in parts, for instance by region",
            )
        return min(found, key=lambda parameters: parameters.correction_bytes)

    def failure_bits(self, n_receiver: int, n_sender: int) -> float:
        """Return −log2 of the chance that any sender id has fewer than 128 differing bits."""
        return _failure_bits(n_receiver, n_sender, self.log_rows, self.width)

    def check(self, n_receiver: int, n_sender: int) -> None:
        """Refuse parameters that are too weak for two set sizes.

        Raises
        ------
        ParameterError
            If the failure probability is above 2^-40.
        """
        if self.failure_bits(n_receiver, n_sender) < STATISTICAL_BITS:
            raise ParameterError(
                "the OPRF matrix is too small for these sets.",
                fix="let Cm20Parameters.choose find it from both sizes",
            )

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return 1 << self.log_rows

    @property
    def words(self) -> int:
        """64-bit words of one column."""
        return self.rows // 64

    @property
    def correction_bytes(self) -> int:
        """Bytes that the receiver sends in all."""
        return self.width * self.rows // 8

    @property
    def per_half(self) -> int:
        """Column positions read from one 64-bit half of an AES block."""
        return min(_MAX_PER_HALF, 64 // self.log_rows)

    @property
    def per_block(self) -> int:
        """Columns whose positions come from one AES call."""
        return 2 * self.per_half

    @property
    def n_blocks(self) -> int:
        """AES calls per id."""
        return -(-self.width // self.per_block)

    def block_columns(self, block: int) -> range:
        """Return the columns of one block."""
        first = block * self.per_block
        return range(first, min(self.width, first + self.per_block))

    def groups(self) -> list[range]:
        """Return the blocks that travel together, about 1 MB each, in order."""
        size = max(1, _GROUP_BYTES // (self.per_block * self.rows // 8))
        return [range(a, min(self.n_blocks, a + size)) for a in range(0, self.n_blocks, size)]


def _failure_bits(n_receiver: int, n_sender: int, log_rows: int, width: int) -> float:
    # A position of a column stays 1 if all receiver ids miss it.
    stays_one = math.exp(n_receiver * math.log1p(-(2.0**-log_rows)))
    tail = float(bdtr(COMPUTATIONAL_BITS - 1, width, stays_one))
    return math.inf if tail == 0.0 else -math.log2(tail) - math.log2(n_sender)


def _narrowest(n_receiver: int, n_sender: int, log_rows: int) -> int | None:
    """Find the least secure width by bisection: the failure falls with every column."""
    wanted = STATISTICAL_BITS + _ROUNDING_BITS
    if _failure_bits(n_receiver, n_sender, log_rows, _MAX_WIDTH) < wanted:
        return None
    low, high = COMPUTATIONAL_BITS, _MAX_WIDTH
    while low < high:
        middle = (low + high) // 2
        if _failure_bits(n_receiver, n_sender, log_rows, middle) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low
