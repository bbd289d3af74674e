"""Sites: the grammar, its round trip, the order of computation, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.errors import SiteError
from leadline.sites import BLOCK_KINDS, HEAD_KINDS, KINDS, MODEL_KINDS, Site, expand_sites

LAYERS = st.integers(0, 200)
SITES = st.one_of(
    st.builds(Site, st.sampled_from(MODEL_KINDS)),
    st.builds(Site, st.sampled_from(BLOCK_KINDS), LAYERS),
    st.builds(Site, st.sampled_from(HEAD_KINDS), LAYERS, LAYERS),
)


def names(patterns: object, **size: object) -> list[str]:
    return [site.name for site in expand_sites(patterns, **{"n_layers": 4, "n_heads": 2, **size})]  # type: ignore[arg-type]


@settings(deadline=None)
@given(SITES)
def test_a_name_reads_back_as_the_same_site(site: Site) -> None:
    assert Site.parse(site.name) == site
    assert Site.parse(f" {site} ") == site
    assert Site.parse(site) is site


@settings(deadline=None)
@given(st.lists(SITES, min_size=1, max_size=8))
def test_sites_expand_to_themselves_distinct_and_in_order(sites: list[Site]) -> None:
    found = expand_sites(sites, n_layers=201, n_heads=201)
    assert set(found) == set(sites)
    assert len(found) == len(set(found))
    assert list(found) == sorted(found, key=lambda site: site.depth)
    assert expand_sites(" ".join(map(str, sites)), n_layers=201, n_heads=201) == found


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_site_or_a_site_error(text: str) -> None:
    try:
        site = Site.parse(text)
    except SiteError:
        return
    assert site.kind in KINDS


@settings(deadline=None)
@given(st.text(st.sampled_from("resid_potmb.*0123456789-, "), max_size=24))
def test_any_pattern_gives_sites_or_a_site_error(text: str) -> None:
    try:
        found = names(text)
    except SiteError:
        return
    assert found


def test_the_order_of_computation() -> None:
    given = ["final_norm", "resid_post.0", "mlp_out.0", "resid_mid.0", "attn_out.0", "head_out.0.1", "head_out.0.0"]
    expected = ["embed", "resid_pre.0", *reversed(given[1:]), "resid_pre.1", "final_norm"]
    assert names([*given, "resid_pre.1", "resid_pre.0", "embed"]) == expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("embed", ["embed"]),
        ("resid_post.*", ["resid_post.0", "resid_post.1", "resid_post.2", "resid_post.3"]),
        ("resid_post.1-2", ["resid_post.1", "resid_post.2"]),
        ("resid_post.3,0", ["resid_post.0", "resid_post.3"]),
        ("resid_post.0,2-3", ["resid_post.0", "resid_post.2", "resid_post.3"]),
        ("resid_post.2-2", ["resid_post.2"]),
        ("head_out.3.*", ["head_out.3.0", "head_out.3.1"]),
        ("head_out.0-1.1", ["head_out.0.1", "head_out.1.1"]),
        ("final_norm embed", ["embed", "final_norm"]),
        (["final_norm", "embed resid_post.0"], ["embed", "resid_post.0", "final_norm"]),
        ([Site("resid_post", 1), "resid_post.*"], [f"resid_post.{layer}" for layer in range(4)]),
        (Site("embed"), ["embed"]),
    ],
)
def test_patterns(patterns: object, expected: list[str]) -> None:
    assert names(patterns) == expected


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ("resid_pots.1", r"unknown site 'resid_pots\.1'.*Did you mean 'resid_post'\?"),
        ("resid_post", r"'resid_post' needs a layer, as in 'resid_post\.8'"),
        ("resid_post.4", "layer 4 does not exist; this model has layers 0 to 3"),
        ("resid_post.2-9", "does not exist"),
        ("resid_post.3-1", "runs backwards; write 1-3"),
        ("resid_post.x", "cannot read layer 'x'"),
        ("resid_post.-1", "cannot read layer '-1'"),
        ("resid_post.1.2", "takes no head"),
        ("resid_post.1.2.3", "not one site"),
        ("embed.0", "takes no layer"),
        ("head_out.1", r"needs a head too, as in 'head_out\.1\.3'"),
        ("head_out.1.2", "head 2 does not exist"),
        ("head_out", "needs a layer"),
        ("", "no sites were given"),
        ([], "no sites were given"),
        ([Site("resid_post", 9)], "layer 9 does not exist"),
    ],
)
def test_what_is_refused(patterns: object, words: str) -> None:
    with pytest.raises(SiteError, match=words):
        names(patterns)


def test_a_kind_that_the_model_does_not_offer_is_refused() -> None:
    with pytest.raises(SiteError, match="offers no 'resid_mid'; it offers embed, resid_post"):
        names("resid_mid.0", offered=("embed", "resid_post"))


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(SiteError, match="names no site"):
        names("head_out.*.*", n_heads=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resid", 1), "unknown site kind 'resid'"),
        (("resid_post",), "needs a layer"),
        (("embed", 0), "takes no layer"),
        (("head_out", 1), "needs a layer and a head"),
        (("mlp_out", 1, 2), "takes no head"),
        (("mlp_out", -1), "layer -1 .* is negative"),
        (("head_out", 1, -2), "head -2 .* is negative"),
    ],
)
def test_a_site_that_cannot_be(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(SiteError, match=words):
        Site(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["resid_post.*", "resid_post.1-2", "resid_post.", "resid_post.1,2", "embed."])
def test_one_site_is_no_pattern(text: str) -> None:
    with pytest.raises(SiteError, match=re.escape(f"'{text}' is not one site")):
        Site.parse(text)
