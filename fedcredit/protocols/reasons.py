"""Reason codes: which characteristics cost an applicant most points, over all parties.

::

    label holder                              each provider
      (the job names model, rows, n)  ------->
                                      <-------  ReasonLosses{labels; per row the n largest losses}
      merges the parties' losses and keeps the n largest of every row

A loss is the neutral value of a characteristic minus the row's points, in whole points. A
provider names its losses at the grain that it allows: single features, groups of features whose
losses are added up, or nothing but the party.

=============  ==========================================================================
role           learns
=============  ==========================================================================
label holder   for every row that was asked for, of every provider, its ``n`` largest losses
               in whole points and the label of each, at the provider's grain; also those that
               do not get among the ``n`` largest of all parties. Where the points of the bins
               are known and differ, the loss of a single feature names its bin, so this is an
               answer about single enterprises. At the grain "party" it is one number per row
provider       which rows are explained, with which model, and how many reasons are asked for;
               nothing about the other parties' losses
=============  ==========================================================================

Hence the limits: at most :data:`MAX_ROWS` rows and :data:`MAX_REASONS` reasons per run, and the
caller counts every run in the same budget as a revealed predictor of these rows. Losses are not
fetched one by one until the ``n`` largest are found, which would show less to the label holder:
how many of its losses are fetched would tell a provider how the rest of the score is.

Every answer has the same size whatever it holds: a row with fewer losses than ``n`` is padded.

Source: the neutral values and points lost are those of N. Siddiqi, "Intelligent Credit Scoring",
2nd edition (2017), chapter 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.errors import InputError, PeerProtocolError
from fedcredit.wire import I32x1, Message, Peer, Peers, U16x1

__all__ = [
    "MAX_REASONS",
    "MAX_ROWS",
    "NO_REASON",
    "ReasonLosses",
    "Reasons",
    "add_up",
    "check_size",
    "largest_losses",
    "reasons_label_holder",
    "reasons_provider",
]

#: Rows of one run at most.
MAX_ROWS = 1_000
#: Reasons per row at most.
MAX_REASONS = 10
#: Stands for "no further reason" among the numbers of labels.
NO_REASON = 2**16 - 1
_MAX_LABEL = 200
_MAX_LOSS = 1 << 20
_STEP = "reason codes"

Numbers = npt.NDArray[np.uint16]
Losses = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)
class ReasonLosses(
    Message,
    kind="reasons.losses",
    version=1,
    max_bytes=4 << 20,
    reveals="per row asked for the largest losses of points, named by feature, group or party",
):
    """Provider to label holder: the largest losses per row, largest first.

    ``labels`` names the characteristics; ``number`` and ``loss`` (whole points) hold the rows one
    after the other, ``n`` entries each, padded by :data:`NO_REASON` and 0.
    """

    labels: tuple[str, ...]
    number: U16x1
    loss: I32x1


@dataclass(frozen=True, eq=False)
class Reasons:
    """The largest losses of every row over all parties.

    Attributes
    ----------
    labels : tuple of (str, str)
        Party and label of each characteristic that a number stands for.
    number : ndarray of uint16, shape (rows, n)
        Characteristics, largest loss first; :data:`NO_REASON` where there is none.
    loss : ndarray of int32, shape (rows, n)
        Points lost against the neutral value; 0 where there is no reason.
    """

    labels: tuple[tuple[str, str], ...]
    number: Numbers = field(repr=False)
    loss: Losses = field(repr=False)


def add_up(
    losses: npt.NDArray[np.float64], groups: Sequence[str]
) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Add up the losses of the features of a group.

    Parameters
    ----------
    losses : ndarray of float64, shape (rows, features)
        Points.
    groups : sequence of str
        Group of each feature.

    Returns
    -------
    labels : tuple of str
        The groups, in the order of their first feature.
    losses : ndarray of float64, shape (rows, groups)
    """
    labels = tuple(dict.fromkeys(groups))
    member = np.array([[group == label for label in labels] for group in groups], np.float64)
    return labels, losses @ member.reshape(len(groups), len(labels))


def largest_losses(losses: npt.NDArray[np.float64], n: int) -> tuple[Numbers, Losses]:
    """Return the ``n`` largest losses of every row, in whole points, largest first.

    Ties go to the characteristic that stands first. What rounds to less than one point is no
    reason.

    Parameters
    ----------
    losses : ndarray of float64, shape (rows, characteristics)
        Points, any sign.
    n : int

    Returns
    -------
    number : ndarray of uint16, shape (rows, n)
    loss : ndarray of int32, shape (rows, n)

    Raises
    ------
    InputError
        A loss is not finite or impossibly large.
    """
    whole = np.rint(losses)
    if not (np.abs(whole) < _MAX_LOSS).all():  # also false for NaN
        raise InputError(
            "a loss of points is not finite or impossibly large.",
            step=_STEP,
            fix="check pdo and the coefficients",
        )
    rows, width = whole.shape
    number = np.full((rows, n), NO_REASON, np.uint16)
    loss = np.zeros((rows, n), np.int32)
    kept = min(n, width)
    order = np.argsort(-whole, axis=1, kind="stable")[:, :kept]
    best = np.take_along_axis(whole, order, axis=1)
    real = best >= 1
    number[:, :kept] = np.where(real, order, NO_REASON)
    loss[:, :kept] = np.where(real, best, 0)
    return number, loss


def check_size(n_rows: int, n: int) -> None:
    """Raise InputError unless so many rows and reasons per row may be asked for."""
    if not 1 <= n_rows <= MAX_ROWS:
        raise InputError(
            f"reason codes are given for 1 to {MAX_ROWS} rows at a time.",
            step=_STEP,
            fix="ask for the applicants who need an explanation, frame.take(...)",
        )
    if not 1 <= n <= MAX_REASONS:
        raise InputError(
            f"a row has 1 to {MAX_REASONS} reasons.", step=_STEP, fix="choose n in this range"
        )


async def reasons_provider(
    peer: Peer, losses: npt.NDArray[np.float64], labels: Sequence[str], n: int
) -> None:
    """Send the largest losses of every row; the provider's role, after the job message.

    Parameters
    ----------
    peer : Peer
        The label holder.
    losses : ndarray of float64, shape (rows, characteristics)
        Points lost, already at the grain that this party allows.
    labels : sequence of str
        Names of the characteristics.
    n : int
        Reasons per row.

    Raises
    ------
    InputError
        There are too many rows or reasons, or a loss is not finite.
    """
    check_size(len(losses), n)
    number, loss = largest_losses(losses, n)
    await peer.send(ReasonLosses(tuple(labels), number.ravel(), loss.ravel()))


async def reasons_label_holder(
    peers: Peers,
    party: str,
    losses: npt.NDArray[np.float64],
    labels: Sequence[str],
    n: int,
) -> Reasons:
    """Rank the losses of all parties; the label holder's role, after the job message.

    Parameters
    ----------
    peers : Peers
        The providers that are asked; there may be none.
    party : str
        Name of the label holder.
    losses : ndarray of float64, shape (rows, own characteristics)
        The label holder's own losses, in points.
    labels : sequence of str
        Names of its characteristics.
    n : int
        Reasons per row.

    Returns
    -------
    Reasons
        Ties go to the label holder first, then to the providers in the order of ``peers``.

    Raises
    ------
    InputError
        There are too many rows or reasons, or a loss is not finite.
    PeerProtocolError
        A provider's answer has another size, an unknown number or a loss out of range or order.
    """
    rows = len(losses)
    check_size(rows, n)
    numbers, points = largest_losses(losses, n)
    names = [(party, label) for label in labels]
    found = [(numbers, points)]
    answers: Mapping[str, ReasonLosses] = await peers.gather(ReasonLosses) if peers else {}
    for name in peers:
        number, loss = _checked(answers[name], rows, n, name)
        found.append((np.where(number == NO_REASON, NO_REASON, number + len(names)), loss))
        names += [(name, label) for label in answers[name].labels]
    if len(names) >= NO_REASON:
        raise PeerProtocolError("the providers name too many characteristics.", step=_STEP)
    number = np.concatenate([part[0] for part in found], axis=1)
    loss = np.concatenate([part[1] for part in found], axis=1)
    order = np.argsort(-loss, axis=1, kind="stable")[:, :n]
    return Reasons(
        tuple(names),
        np.take_along_axis(number, order, axis=1).astype(np.uint16),
        np.take_along_axis(loss, order, axis=1),
    )


def _checked(
    answer: ReasonLosses, rows: int, n: int, name: str
) -> tuple[npt.NDArray[np.int64], Losses]:
    def refuse(reason: str) -> PeerProtocolError:
        return PeerProtocolError(reason, party=name, step=_STEP)

    if answer.number.shape != (rows * n,) or answer.loss.shape != (rows * n,):
        raise refuse("the losses are of another number of rows or reasons.")
    if any(not 0 < len(label) <= _MAX_LABEL or not label.isprintable() for label in answer.labels):
        raise refuse("a label is empty, too long or not printable.")
    if len(set(answer.labels)) != len(answer.labels):
        raise refuse("a label stands for two characteristics.")
    number = answer.number.reshape(rows, n).astype(np.int64)
    loss = answer.loss.reshape(rows, n)
    none = number == NO_REASON
    if (number[~none] >= len(answer.labels)).any():
        raise refuse("a loss has an unknown label.")
    if (loss[none] != 0).any() or (loss[~none] < 1).any() or (loss >= _MAX_LOSS).any():
        raise refuse("a loss is out of range.")
    if (np.diff(loss.astype(np.int64), axis=1) > 0).any():
        raise refuse("the losses are not in descending order.")
    return number, loss
