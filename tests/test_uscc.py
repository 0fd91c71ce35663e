"""Spelling, kinds, duplicates and check characters of enterprise ids."""

import csv
import doctest
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from stdnum.cn import uscc as oracle

import fedcredit.uscc
from fedcredit.errors import InputError
from fedcredit.uscc import ALPHABET, check_characters, is_valid, normalise
from tests.support.real_data import data_directory

CODE = "91110000600037341L"


def vectors_file() -> Path:
    path = data_directory() / "uscc" / "uscc_vectors.csv"
    if not path.is_file():
        pytest.skip("no uscc/uscc_vectors.csv: set FEDCREDIT_DATA to the folder of real data")
    return path


def random_codes(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    letters = np.array(list(ALPHABET))
    bodies = letters[rng.integers(0, 31, (n, 17))]
    bodies[:, :8] = letters[rng.integers(0, 10, (n, 8))]
    texts = ["".join(row) for row in bodies]
    return [body + oracle.calc_check_digit(body) for body in texts]


@pytest.mark.parametrize(
    "spelling",
    [
        "91110000600037341L",
        "91110000600037341l",
        "９１１１００００６０００３７３４１Ｌ",
        "９１１１００００６０００３７３４１ｌ",
        "  91110000600037341L\t\r\n",
        "\u300091110000600037341L\u00a0",
        "9 1 110000 600037341 L",
        "91-110000-600037341-L",
        "91—110000–600037341−L",
        "\ufeff91110000\u200b600037341\u200dL\u2060",
        "'91110000600037341L",
        '="91110000600037341L"',
        "“91110000600037341L”",
        b"91110000600037341L",
    ],
)
def test_spellings_become_one(spelling):
    report = normalise([spelling, CODE])
    assert report.ids.tolist() == [CODE.encode()]
    assert (report.duplicate, report.invalid_check_digit, report.unusable) == (1, 0, 0)


@pytest.mark.parametrize(
    "old",
    ["110000000123456", "1100001234567", "110000600037341", "110108MA01ABCDX", "60003734-1"],
)
def test_codes_from_before_the_standard_are_kept_and_counted(old):
    report = normalise([old, CODE])
    assert report.pre_standard == 1
    assert report.ids.tolist() == [old.replace("-", "").encode(), CODE.encode()]


@pytest.mark.parametrize(
    "wrong",
    [
        "9.11522E+17",
        "911522010783762860.0",
        "9111000060003734",
        "91110000600037341LL",
        "某某有限公司",
        "91110000600037341Ł",
        f"{CODE}/{CODE}",
        "N/A",
        True,
        b"\xc3\x28" * 9,
    ],
)
def test_what_is_no_code_is_left_out(wrong):
    report = normalise([CODE, wrong])
    assert report.ids.tolist() == [CODE.encode()]
    assert report.unusable == 1


@pytest.mark.parametrize("kept", ["91110000600037341N", "9111000060003734IL", "A1110000600037341L"])
def test_failing_check_digit_is_counted_and_kept(kept):
    report = normalise([kept, CODE])
    assert report.invalid_check_digit == 1
    assert kept.encode() in report.ids.tolist()
    assert "fail the check digit" in report.warnings()[0]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, "", "  \u200b\u3000", "--"])
def test_blank(missing):
    report = normalise([missing, CODE])
    assert (report.blank, report.unusable, report.rows.tolist()) == (1, 0, [1])


def test_counts_add_up_and_rows_point_at_the_ids():
    rng = np.random.default_rng(5)
    codes = random_codes(300)
    codes[7] = codes[7][:-1] + ("0" if codes[7][-1] != "0" else "1")
    column = [codes[i] for i in rng.integers(0, 300, 1000)]
    column += ["", None, "nonsense", "110000000123456", "110000000123456"]
    report = normalise(column)
    assert report.n_rows == len(column) == len(report) + report.blank + report.duplicate + 1
    assert report.unusable == 1
    assert (report.invalid_check_digit, report.pre_standard) == (1, 1)
    assert [column[row].encode() for row in report.rows] == report.ids.tolist()
    first_seen = list(dict.fromkeys(c.encode() for c in column if c not in ("", None, "nonsense")))
    assert report.ids.tolist() == first_seen


def test_duplicate_rules():
    a, b = random_codes(2)
    column = [a, b, a.lower(), b, a]
    first, last = normalise(column), normalise(column, duplicates="last")
    assert first.ids.tolist() == last.ids.tolist() == [a.encode(), b.encode()]
    assert first.rows.tolist() == [0, 1]
    assert last.rows.tolist() == [4, 3]
    assert first.duplicate == last.duplicate == 3
    with pytest.raises(InputError, match="3 of 5 rows repeat") as caught:
        normalise(column, duplicates="error")
    assert a not in str(caught.value)
    assert len(normalise([a, b], duplicates="error")) == 2


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda v: np.array(v, dtype=object),
        lambda v: np.array(v, dtype="S18"),
        pd.Series,
        lambda v: pd.Series(v, dtype=object),
        lambda v: pd.Series(v, index=range(100, 100 + len(v))),
        lambda v: pd.Series(v).astype("category"),
        lambda v: pd.Series(v, dtype="string"),
        pa.array,
        lambda v: pa.array(v, pa.large_string()),
        lambda v: pa.array(v, pa.string_view()),
        lambda v: pa.array(v).dictionary_encode(),
        lambda v: pa.chunked_array([v[:1], v[1:]]),
        lambda v: pa.chunked_array([pa.array(v).dictionary_encode()] * 2),
    ],
)
def test_containers(make):
    codes = random_codes(5)
    report = normalise(make(codes))
    assert report.ids.tolist() == [code.encode() for code in codes]
    assert report.rows.tolist() == [0, 1, 2, 3, 4]
    assert report.ids.dtype == "S18"


def test_integers_keep_their_digits():
    expected = [b"911522010783762860"]
    assert normalise([911522010783762860]).ids.tolist() == expected
    assert normalise(np.array([911522010783762860])).ids.tolist() == expected
    assert normalise([911522010783762860, "x", None]).ids.tolist() == expected
    assert normalise([10**40]).unusable == 1


@pytest.mark.parametrize(
    "empty", [[], np.array([], dtype=object), pa.chunked_array([], pa.string())]
)
def test_empty(empty):
    report = normalise(empty)
    assert len(report) == report.n_rows == 0
    assert report.warnings() == []


@pytest.mark.parametrize(
    "bad",
    [
        np.array([9.11522010783762860e17]),
        pd.Series([9.1e17, None]),
        "91110000600037341L",
        [[1]],
        np.array([["a"]]),
        pd.DataFrame({"a": ["b"]}),
        pd.Series(pd.to_datetime(["2020-01-01"])),
    ],
)
def test_columns_that_hold_no_ids(bad):
    with pytest.raises(InputError) as caught:
        normalise(bad)
    assert "9.1" not in str(caught.value)


def test_unknown_options():
    with pytest.raises(InputError, match="kind"):
        normalise([CODE], kind="ean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="duplicates"):
        normalise([CODE], duplicates="any")  # type: ignore[arg-type]


def test_text_ids_only_lose_outer_blanks_and_width():
    report = normalise(
        [" ａb-1 2\u200b", "ab-1 2", "AB-1 2", "x\x00y", "é" * 129, None], kind="text"
    )
    assert report.ids.tolist() == [b"ab-1 2", b"AB-1 2"]
    assert (report.duplicate, report.unusable, report.blank) == (1, 2, 1)
    assert (report.pre_standard, report.invalid_check_digit) == (0, 0)
    long = normalise(["a" * 200, "b"], kind="text").ids
    assert long.tolist() == [b"a" * 200, b"b"]


def test_text_that_is_no_unicode_never_becomes_one_id():
    report = normalise(["a", b"\xff", b"\xfe", "\ud800", "\ud801"], kind="text")
    assert (report.ids.tolist(), report.unusable) == ([b"a"], 4)


def test_report_shows_no_id():
    report = normalise([CODE, CODE, "110000000123456"])
    for text in (repr(report), str(report), str(report.counts()), " ".join(report.warnings())):
        assert CODE not in text
        assert "110000000123456" not in text
    assert report.counts()["usable"] == 2


def test_check_characters_agree_with_stdnum():
    codes = random_codes(2000, seed=3)
    matrix = np.frombuffer("".join(codes).encode(), dtype=np.uint8).reshape(-1, 18)
    np.testing.assert_array_equal(check_characters(matrix[:, :17]), matrix[:, 17])
    assert is_valid(codes).all()
    rng = np.random.default_rng(4)
    typed = [list(code) for code in codes]
    for row in typed:
        row[rng.integers(18)] = ALPHABET[rng.integers(31)]
    mistyped = ["".join(row) for row in typed]
    assert is_valid(mistyped).tolist() == [oracle.is_valid(code) for code in mistyped]
    assert 0 < is_valid(mistyped).sum() < 200


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ("N2320106MA1WGT8R2", True),  # letters are allowed for the authority and the kind,
        ("91A10000600037341", False),  # not in the region
        ("9111000A600037341", False),
    ],
)
def test_letters_in_the_first_eight_places(body, valid):
    check = check_characters(np.frombuffer(body.encode(), dtype=np.uint8)[None])
    assert is_valid([body + check.tobytes().decode()]).tolist() == [valid]


def test_is_valid_takes_what_is_no_code():
    assert is_valid(["", "x", None, CODE.lower(), CODE]).tolist() == [False] * 4 + [True]


def test_check_characters_refuse_other_shapes_and_letters():
    with pytest.raises(InputError, match="shape"):
        check_characters(np.zeros((2, 18), np.uint8))
    with pytest.raises(InputError, match="alphabet"):
        check_characters(np.full((1, 17), ord("I"), np.uint8))


@pytest.mark.realdata
def test_published_codes():
    with vectors_file().open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    codes = [row["code"] for row in rows]
    holds = [row["mod31_check_ok"] == "True" for row in rows]
    assert is_valid(codes).tolist() == holds
    report = normalise([f" {code.lower()}" for code in codes])
    assert (len(report), report.invalid_check_digit) == (263, 6)
    matrix = np.frombuffer("".join(codes).encode(), dtype=np.uint8).reshape(-1, 18)
    computed = "".join(row["computed_check"] for row in rows).encode()
    assert check_characters(matrix[:, :17]).tobytes() == computed


def test_docstrings():
    assert doctest.testmod(fedcredit.uscc).failed == 0
