"""What crosses the wire in a logistic regression, held to the table of its protocol."""

import functools

import numpy as np
import pytest
from scipy.special import expit

from fedcredit.protocols.logistic import LogisticParams
from fedcredit.protocols.logistic_types import LogisticLimits
from fedcredit.wire import Transcript, message_class
from tests.support.joint_logistic import PLATFORM, Case, fit, synthetic

OWNERS = pytest.mark.parametrize("owners", [(2, 3), (2, 3, 2)], ids=["one", "two"])

HIDDEN_DOWN = {
    "logistic.start",
    "logistic.agreed",
    "logistic.exact",
    "logistic.move",
    "logistic.evaluate",
    "logistic.sums",
    "logistic.finish",
    "sums.keys",
    "sums.chunk",
}
HIDDEN_UP = {
    "logistic.columns",
    "logistic.parts",
    "logistic.range",
    "logistic.products",
    "logistic.result",
    "sums.reply",
}
EXACT_DOWN = {"logistic.reveal", "logistic.gram", "logistic.step", "gram.start"}
EXACT_UP = {"predictor.share", "logistic.basis", "logistic.gradient"}
LEAD_DOWN, LEAD_UP = {"sums.reply"}, {"sums.keys", "sums.chunk", "logistic.sums"}
BETWEEN = {"pairwise.key", "pairwise.common", "gram.angles"}


def case_of(owners, **options):
    rng = np.random.default_rng(5)
    X, y = synthetic(900, owners)
    closed = LogisticLimits(max_reveals=3, release_coefficients=False)
    weight = rng.integers(1, 5, len(y)) + rng.random(len(y))
    offset = rng.normal(scale=0.3, size=len(y))
    return Case(X, y, owners, limits=closed, weight=weight, offset=offset, **options)


def record(case):
    transcript = Transcript(keep=True)
    return fit(case, transcript), transcript.records


@pytest.fixture(scope="module")
def recorded():
    """One fit per kind of case, with all of its messages: the case, the fit, the records."""

    @functools.cache
    def get(owners, polish_steps):
        case = case_of(owners, params=LogisticParams(polish_steps=polish_steps))
        return case, *record(case)

    return get


@OWNERS
@pytest.mark.parametrize("exact", [False, True], ids=["hidden", "polished"])
def test_the_kinds_of_messages_are_those_of_the_protocol(recorded, owners, exact):
    case, _, records = recorded(owners, 2 if exact else 0)
    for number, name in enumerate(case.providers):
        down = {r.message.kind for r in records if (r.sender, r.recipient) == (PLATFORM, name)}
        up = {r.message.kind for r in records if (r.sender, r.recipient) == (name, PLATFORM)}
        lead = number == 0
        expected_down = HIDDEN_DOWN | (LEAD_DOWN if lead else set())
        expected_up = HIDDEN_UP | (LEAD_UP if lead else set())
        if exact:
            expected_down = expected_down | EXACT_DOWN | (set() if lead else {"gram.seed"})
            expected_up = expected_up | EXACT_UP
        assert down == expected_down
        assert up == expected_up
        assert all(message_class(kind).reveals for kind in down | up)
    rest = {r.message.kind for r in records if PLATFORM not in (r.sender, r.recipient)}
    assert rest <= BETWEEN


# ------------------------------------------------------------------- what is not on the wire


def found(wire, values):
    """Whether the first or middle 64 entries of a vector, however encoded, are in the bytes."""
    for dtype in ("<f8", "<f4", "<i8", "<i4", "<i2", "<u2", "u1"):
        with np.errstate(invalid="ignore"):
            encoded = np.asarray(values).astype(dtype)
        if dtype[1] != "f" and not np.array_equal(encoded, values):
            continue
        data, size = encoded.tobytes(), 64 * encoded.itemsize
        if data[:size] in wire or data[len(data) // 2 :][:size] in wire:
            return True
    if set(np.unique(values)) <= {0.0, 1.0}:
        for order in ("big", "little"):
            data = np.packbits(values.astype(np.uint8), bitorder=order).tobytes()
            if data[:8] in wire or data[len(data) // 2 :][:8] in wire:
                return True
    return False


def secrets_of(case, joint):
    """Vectors that must not leave their owner."""
    coef = joint.coef
    total = case.X @ coef[:-1] + coef[-1] + case.offset
    p = expit(total)
    yield "labels", case.y
    yield "weights", case.weight
    yield "offset", case.offset
    yield "predictor", total
    yield "probabilities", p
    yield "residuals", case.y - p
    yield "weighted residuals", case.weight * (case.y - p)
    yield "curvatures", case.weight * p * (1 - p)
    for number in range(len(case.owners)):
        columns = case.columns(number)
        part = case.X[:, columns] @ coef[:-1][columns]
        for what, values in (("part", part), ("centred part", part - part.mean())):
            for scale in (1.0, 2.0**40):
                yield f"{what} of party {number}", np.rint(values * scale) if scale > 1 else values
            angles = np.rint(values * 65536 / 14) % 65536
            yield f"angles of the {what} of party {number}", angles
    for f in range(case.X.shape[1]):
        x = case.X[:, f]
        yield f"column {f}", x
        yield f"centred column {f}", x - x.mean()
        yield f"standardised column {f}", (x - x.mean()) / x.std()


@OWNERS
def test_no_label_residual_predictor_column_or_coefficient_is_on_the_wire(recorded, owners):
    case, joint, records = recorded(owners, 0)
    wire = b"|".join(r.data.to_pybytes() for r in records)
    for what, vector in secrets_of(case, joint):
        assert not found(wire, vector), what
    for value in joint.coef:
        assert np.float64(value).tobytes() not in wire
    # The search sees what is there.
    angles = next(r.message.angles for r in records if r.message.kind == "logistic.parts")
    assert found(wire, angles)


def test_several_providers_are_seen_as_a_sum_alone_when_polished(recorded):
    case, joint, records = recorded((2, 3, 2), 2)
    wire = b"|".join(r.data.to_pybytes() for r in records)
    for what, vector in secrets_of(case, joint):
        assert not found(wire, vector), what
    for value in joint.coef:
        assert np.float64(value).tobytes() not in wire


# ------------------------------------------------------------- what is there looks like chance


def chi_square(data):
    counts = np.bincount(data, minlength=256)
    mean = data.size / 256
    return (((counts - mean) ** 2 / mean).sum() - 255) / (2 * 255) ** 0.5


@OWNERS
def test_masked_angles_products_and_sums_are_uniform_and_fresh(recorded, owners):
    case, _, records = recorded(owners, 2)
    runs = [records, record(case)[1]]
    for name in case.providers:
        pieces = []
        for records in runs:
            mine = [r.message for r in records if r.sender == name]
            angles = [m.angles for m in mine if m.kind == "logistic.parts"]
            assert len({a.tobytes() for a in angles}) == len(angles) > 3
            for a in angles:
                assert abs(chi_square(a >> 8)) < 6
                assert abs(chi_square(a & 255)) < 6
            pieces.append(np.concatenate(angles))
        same = (pieces[0][: len(pieces[1])] == pieces[1][: len(pieces[0])]).mean()
        assert same < 1e-3
        if len(case.providers) > 1:
            words = [
                r.message.values
                for records in runs
                for r in records
                if r.sender == name and r.message.kind in ("predictor.share", "logistic.products")
            ]
            assert abs(chi_square(np.concatenate(words).view(np.uint8))) < 6
    back = [
        r.message.values for records in runs for r in records if r.message.kind == "logistic.sums"
    ]
    low = (np.concatenate(back) & 255).astype(np.int64)
    assert abs(chi_square(low)) < 6
    bits = np.concatenate(back)
    assert abs((bits < 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(bits))


@OWNERS
def test_angles_of_one_evaluation_tell_nothing_about_the_parts(recorded, owners):
    """The label holder's whole view of a row, against the true part."""
    case, joint, records = recorded(owners, 0)
    rows = case.columns(0).stop
    part = case.X[:, rows:] @ joint.coef[rows:-1]
    for name in case.providers:
        for r in records:
            if r.sender == name and r.message.kind == "logistic.parts":
                turn = 2 * np.pi * r.message.angles / 65536
                for seen in (np.cos(turn), np.sin(turn)):
                    assert abs(np.corrcoef(seen, part)[0, 1]) < 5 / np.sqrt(len(part))


@OWNERS
def test_sizes_do_not_depend_on_labels(owners):
    """Every evaluation has messages of the same size, whatever the labels."""
    case = case_of(owners)
    rng = np.random.default_rng(8)
    sizes = []
    for _ in range(2):
        kinds = {}
        for r in record(Case(case.X, rng.permutation(case.y), owners, limits=case.limits))[1]:
            if r.message.kind in ("logistic.parts", "predictor.share", "sums.chunk"):
                kinds.setdefault((r.sender, r.recipient, r.message.kind), set()).add(r.data.size)
        sizes.append(kinds)
    assert sizes[0] == sizes[1]
