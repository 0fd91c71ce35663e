"""Federations in one process: populations, policies and what goes wrong in an alignment."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import fedcredit as fc
from fedcredit import errors
from tests.support.parties import (
    FEATURES,
    LABEL,
    OPEN,
    assert_helpful,
    classifier,
    federation,
    tables,
)


def policy(**limits):
    return dataclasses.replace(OPEN, **limits)


@pytest.fixture(scope="module")
def population():
    return fc.datasets.make_sme_population(700, seed=3)


@pytest.fixture(scope="module")
def sme(population):
    """The population with one and with two providers, aligned."""
    one = fc.simulate(platform=population.platform, tax=population.tax)
    two = fc.simulate(
        platform=population.platform,
        tax=population.tax,
        social_security=population.social_security,
    )
    return one.align(on="uscc"), two.align()


class TestPopulation:
    """Ids as dirty as real ones."""

    def test_every_true_match_is_found(self, population, sme):
        frame = sme[1]
        matches = population.truth["matches"] & population.truth["in_platform"]
        matches &= population.truth["in_tax"] & population.truth["in_social_security"]
        assert len(frame) == matches.sum()
        assert len(sme[0]) > len(frame)

    def test_the_report_counts_the_dirt(self, population, sme):
        report = sme[1].match_report
        assert report.loc["tax", "rows"] == len(population.tax)
        assert (report["matched"] == len(sme[1])).all()
        assert report["duplicate"].sum() > 0
        assert report["blank"].sum() > 0
        assert (report["distinct"] <= report["rows"]).all()

    @pytest.mark.parametrize("providers", [0, 1])
    def test_a_joint_model_is_fitted(self, sme, providers):
        frame = sme[providers]
        train, test = frame.train_test_split(test_size=0.3, stratify="default", random_state=0)
        model = classifier(hide_membership=False).fit(train, y="default")
        p = model.predict_proba(test)
        assert p.shape == (len(test), 2)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert 0.5 < model.score(test, y="default") <= 1
        assert model.providers_ == frame.providers

    def test_three_providers(self, population):
        social = population.social_security
        fed = fc.simulate(
            platform=population.platform,
            tax=population.tax,
            social_security=social[["uscc", "insured_staff", "average_base"]],
            housing=social[["uscc", "staff_turnover", "average_tenure"]],
        )
        frame = fed.align()
        assert frame.providers == ("tax", "social_security", "housing")
        model = classifier(max_depth=3, hide_membership=False).fit(frame, y="default")
        assert len(model.predict(frame)) == len(frame)

    def test_some_of_the_providers(self, population, sme):
        fed = sme[1].federation
        frame = fed.align(providers="tax")
        assert frame.providers == ("tax",)
        assert sorted(frame.ids) == sorted(sme[0].ids)

    def test_no_provider(self, population):
        frame = fc.simulate(platform=population.platform).align()
        assert len(frame) == frame.match_report.loc["platform", "distinct"]
        model = classifier(n_estimators=5).fit(frame, y="default")
        assert model.providers_ == ()
        assert len(model.predict(frame)) == len(frame)


def test_arrow_tables_are_read():
    pa = pytest.importorskip("pyarrow")
    parts, pooled = tables()
    arrow = {name: pa.Table.from_pandas(part, preserve_index=False) for name, part in parts.items()}
    frame = federation(arrow).align(on="id")
    assert frame.shape == (240, 8)
    np.testing.assert_array_equal(frame["debt"], pooled.set_index("id")["debt"].loc[frame.ids])
    model = classifier(hide_membership=False, n_estimators=1).fit(frame, y=LABEL)
    assert model.importance()["gain"].sum() > 0


def test_polars_tables_are_read():
    pl = pytest.importorskip("polars")
    parts, _ = tables(n=60)
    fed = federation({name: pl.from_pandas(part) for name, part in parts.items()})
    assert fed.align(on="id").shape == (60, 8)


@pytest.fixture
def parts():
    return tables(n=80)[0]


def ids(parts):
    return [value for part in parts.values() for value in part["id"].dropna().tolist()]


class TestWhatCannotBeSimulated:
    """Refused before anything runs."""

    def test_a_table_of_another_type(self, parts):
        with pytest.raises(errors.InputError, match="type list cannot be read") as caught:
            federation(parts | {"tax": [1, 2]})
        assert_helpful(caught.value, party="tax")

    def test_two_columns_of_a_name(self, parts):
        parts["tax"] = parts["tax"].rename(columns={"growth": "paid"})
        with pytest.raises(errors.InputError, match="two columns") as caught:
            federation(parts)
        assert_helpful(caught.value, party="tax")

    @pytest.mark.parametrize("option", ["policy", "categorical"])
    def test_settings_of_an_unknown_provider(self, parts, option):
        value = {"policy": {"taxx": OPEN}, "categorical": {"taxx": ["sector"]}}[option]
        with pytest.raises(errors.InputError, match="unknown providers: taxx") as caught:
            fc.simulate(**parts, **{option: value})
        assert_helpful(caught.value)

    @pytest.mark.parametrize("party", ["platform", "tax"])
    def test_unknown_categorical_columns(self, parts, party):
        with pytest.raises(errors.InputError, match="unknown categorical columns: sectr") as caught:
            federation(parts, categorical={party: ["sectr"]})
        assert_helpful(caught.value, party=party)

    @pytest.mark.parametrize("name", ["tax.bureau", "", "a b"])
    def test_a_provider_s_name(self, parts, name):
        with pytest.raises(errors.InputError, match="provider's name") as caught:
            fc.simulate(platform=parts["platform"], **{name: parts["tax"]})
        assert_helpful(caught.value)


class TestWhatCannotBeAligned:
    """Each error names the party, the step and a fix, and quotes no id."""

    def check(self, parts, kind, match, *, party=None, limits=OPEN, **options):
        secrets = {value for name in parts.values() for value in name.iloc[:, 0].dropna()}
        fed = federation(parts, policy=limits)
        with pytest.raises(kind, match=match) as caught:
            fed.align(**({"on": "id"} | options))
        assert_helpful(
            caught.value, party=party, secrets={text for text in secrets if str(text).strip()}
        )

    def test_unknown_provider(self, parts):
        match = "unknown providers: customs"
        self.check(parts, errors.InputError, match, providers=["tax", "customs"])

    @pytest.mark.parametrize("party", ["platform", "tax"])
    def test_missing_id_column(self, parts, party):
        parts[party] = parts[party].rename(columns={"id": "ID"})
        self.check(parts, errors.InputError, "id column 'id' is missing", party=party)

    @pytest.mark.parametrize("party", ["platform", "social"])
    def test_blank_ids(self, parts, party):
        parts[party] = parts[party].assign(id=[None, "", "  ", "nan"] * 20)
        parts[party].loc[parts[party]["id"] == "nan", "id"] = None
        self.check(parts, errors.InputError, "no usable id", party=party)

    def test_ids_that_are_no_codes(self, parts):
        parts["tax"] = parts["tax"].assign(id=[f"firm number {i}" for i in range(80)])
        self.check(parts, errors.InputError, "no usable id", party="tax", id_kind="uscc")

    def test_ids_read_as_floats(self, parts):
        parts["tax"] = parts["tax"].assign(id=np.arange(80) + 0.5)
        self.check(parts, errors.InputError, "floating-point", party="tax")

    def test_all_rows_of_one_enterprise(self, parts):
        parts["tax"] = parts["tax"].assign(id=parts["tax"]["id"].iloc[0])
        limits = {"tax": policy(min_intersection=5), "social": OPEN}
        self.check(parts, errors.PolicyError, "fewer common ids", limits=limits)
        frame = federation(parts).align(on="id")
        assert len(frame) == 1
        assert frame.match_report.loc["tax", "duplicate"] == 79

    def test_no_common_enterprise(self, parts):
        parts["tax"] = parts["tax"].assign(id=[f"Z{i}" for i in range(80)])
        self.check(parts, errors.PolicyError, "fewer common ids")

    def test_below_the_platform_s_floor(self, parts):
        self.check(parts, errors.PolicyError, "fewer common ids", min_intersection=81)

    def test_below_a_provider_s_floor(self, parts):
        limits = {"tax": OPEN, "social": policy(min_intersection=81)}
        self.check(parts, errors.PolicyError, "fewer common ids", limits=limits)

    def test_unknown_strategy(self, parts):
        self.check(parts, errors.InputError, "strategy", strategy="fast")

    @pytest.mark.parametrize("name", ["Pilot", "../x", "", "a/b", ".hidden"])
    def test_name_of_the_alignment(self, parts, name):
        self.check(parts, errors.InputError, "name of the alignment", name=name)

    def test_unknown_kind_of_id(self, parts):
        self.check(parts, errors.InputError, "kind", party="platform", id_kind="passport")


class TestPolicies:
    """A provider's limits hold whatever the platform asks."""

    @pytest.fixture(scope="class")
    @classmethod
    def parts(cls):
        parts, _ = tables()
        return {name: parts[name] for name in ("platform", "tax")}

    def fit(self, parts, limits, **options):
        frame = federation(parts, policy=limits).align(on="id")
        return classifier(**({"hide_membership": False} | options)).fit(frame, y=LABEL), frame

    def refused(self, parts, kind, match, limits, **options):
        with pytest.raises(kind, match=match) as caught:
            self.fit(parts, limits, **options)
        secrets = [*ids(parts), *parts["tax"]["paid"]]
        assert_helpful(caught.value, secrets=secrets)
        assert caught.value.party == "tax"

    def test_open_membership_is_refused(self, parts):
        limits = policy(allow_sorted=False)
        self.refused(parts, errors.PolicyError, "open membership", limits)
        hidden, _ = self.fit(parts, limits, hide_membership=True)
        assert hidden.n_estimators_ == 2

    def test_open_scoring_is_refused(self, parts):
        model, frame = self.fit(parts, policy())
        for engine in frame.federation.engines.values():
            engine.policy = policy(allow_sorted=False)
        with pytest.raises(errors.PolicyError, match="open membership") as caught:
            model.predict(frame)
        assert_helpful(caught.value)
        assert caught.value.step == "predict"

    def test_number_of_trees(self, parts):
        limits = policy(max_trees=2)
        assert self.fit(parts, limits)[0].n_estimators_ == 2
        self.refused(parts, errors.PolicyError, "at most 2 trees", limits, n_estimators=3)

    def test_splits_per_feature(self, parts):
        free, _ = self.fit(parts, policy(), n_estimators=4)
        tax = free.importance().query("party != 'platform'")["splits"]
        assert tax.max() > 2
        capped, frame = self.fit(parts, policy(max_splits_per_feature=2), n_estimators=4)
        splits = capped.importance().query("party != 'platform'")["splits"]
        assert splits.max() == 2
        assert len(capped.predict(frame)) == len(frame)

    def test_small_nodes(self, parts):
        limits = policy(min_node_rows=200)
        self.refused(parts, errors.PolicyError, "fewer than 200 rows", limits, max_depth=3)

    def test_no_bin_is_smaller_than_the_floor(self, parts):
        model, frame = self.fit(parts, policy(min_bin_count=40))
        infos = [model.pooled_.infos[i] for i in model.pooled_.of("tax")]
        assert max(info.n_bins for info in infos) <= len(frame) // 40

    def test_hidden_names_stay_hidden_in_models(self, parts):
        hidden, _ = self.fit(parts, policy(release_feature_names=False), n_estimators=1)
        assert hidden.feature_labels_[2:] == ["tax.f1", "tax.f2", "tax.f3"]
        shown, _ = self.fit(parts, policy(), n_estimators=1)
        assert shown.feature_labels_[2:] == [f"tax.{name}" for name in FEATURES["tax"]]

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            (np.inf, "'f1' contains infinite"),
            (pd.Timestamp("2024-01-31"), "'f1' holds dates"),
            (pd.Timedelta(3, "D"), "'f1' holds dates"),
        ],
    )
    def test_hidden_names_stay_hidden_in_errors(self, parts, values, match):
        bad = parts | {"tax": parts["tax"].assign(paid=values)}
        with pytest.raises(errors.InputError, match=match) as caught:
            self.fit(bad, policy(release_feature_names=False))
        assert "paid" not in str(caught.value)
        assert "paid" not in repr(caught.value)
        assert_helpful(caught.value, party="tax", secrets=ids(parts))

    def test_hidden_names_are_used_by_number(self, parts):
        frame = federation(parts, policy=policy(release_feature_names=False)).align(on="id")
        model = classifier(
            hide_membership=False, features=["tax.f1"], monotone_constraints={"tax.f1": 1}
        ).fit(frame, y=LABEL)
        assert model.feature_labels_ == ["tax.f1"]
        assert [info.monotone for info in model.pooled_.infos] == [1]
        with pytest.raises(errors.InputError, match=r"no column 'tax\.paid'"):
            classifier(features=["tax.paid"]).fit(frame, y=LABEL)


def test_settings_of_categories_reach_every_party():
    parts, _ = tables()
    plain = federation(parts).align(on="id")
    coded = federation(parts, categorical={"platform": ["age"], "tax": ["sector"]}).align(on="id")
    assert plain.categorical == {"tax": (), "social": ()}
    assert coded.categorical == {"tax": ("sector",), "social": ()}
    model = classifier(hide_membership=False).fit(coded, y=LABEL)
    kinds = dict(zip(model.feature_labels_, model.pooled_.infos, strict=True))
    assert kinds["tax.sector"].is_categorical
    assert kinds["platform.age"].is_categorical
    assert not kinds["tax.paid"].is_categorical
    other = classifier(hide_membership=False).fit(plain, y=LABEL)
    assert not any(info.is_categorical for info in other.pooled_.infos)


def test_costs_are_kept_per_phase():
    parts, _ = tables(n=80)
    fed = federation(parts)
    frame = fed.align(on="id")
    classifier(hide_membership=False).fit(frame, y=LABEL).predict(frame)
    assert [phase.name for phase in fed.phases] == ["align", "train", "predict"]
    assert set(fed.phase_seconds()) == {"align", "train", "predict"}
    assert sum(phase.bytes for phase in fed.phases) == fed.transcript.total_bytes > 0


def test_a_failed_phase_is_kept_too():
    parts, _ = tables(n=80)
    fed = federation(parts)
    with pytest.raises(errors.PolicyError):
        fed.align(on="id", min_intersection=81)
    assert [phase.name for phase in fed.phases] == ["align"]
