"""Every family of the table, from a small random config: its proof, its sites, what padding and edits do to them."""

from __future__ import annotations

import pytest
import torch

from families import FAMILIES, build_module, example_inputs
from leadline.errors import ArchitectureError, ModelError
from leadline.models.architectures import ARCHITECTURES, COMPOSITES, find_architectures
from leadline.models.batches import text_arguments
from leadline.models.check import TOLERANCE
from leadline.models.model import Model
from leadline.sites import Site

# Built by tests/families.py, and refused: each with the reason.
REFUSED = {
    "zamba2": "does not know the architecture",
    "granitemoehybrid": "built in a way that Leadline does not know",
    "dinov3_vit": "does not know the architecture",
}
KNOWN = tuple(family for family in FAMILIES if family not in REFUSED)
FULL = {"embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"} | {
    "head_out",
    "mlp_hidden",
    "attn_pattern",
    "final_norm",
}
PARALLEL = ("phi", "gptj", "gpt_neox", "falcon", "falcon_new", "stablelm_parallel", "cohere", "cohere2")
NO_NORM = ("opt_post_norm", "bert", "roberta", "deberta_v2", "distilbert", "electra", "bart")
# What a family's parts lack of all kinds, or have beyond them.
LESS = {
    **{family: {"resid_mid"} for family in PARALLEL},
    **{family: {"final_norm"} for family in NO_NORM},
    "deberta_v2": {"final_norm", "attn_pattern"},
    "falcon": {"resid_mid", "attn_pattern"},
    "falcon_new": {"resid_mid", "attn_pattern"},
    "falcon_sequential": {"attn_pattern"},
    **{family: {"mlp_hidden"} for family in ("mixtral", "granitemoe", "gpt_oss", "falcon_h1", "qwen3_next")},
    **{family: FULL - {"embed", "resid_pre", "resid_post", "final_norm"} for family in ("mamba", "mamba2")},
}
MIXERS = ("mamba", "mamba2", "jamba", "bamba", "falcon_h1", "lfm2", "qwen3_next")


def expected_kinds(family: str, part: str) -> set[str]:
    kinds = FULL - LESS.get(family, set())
    if family in MIXERS:
        kinds |= {"mixer_out"}
    if part == "decoder":
        kinds |= {"cross_out"}
    if (family, part) in (("clip", "vision"), ("llava", "vision")):
        kinds -= {"final_norm"}
    return kinds


@pytest.fixture(scope="module")
def models():
    """Each family's model, built once for this file. What turns inputs into tokens is not needed here."""
    built: dict[str, Model] = {}

    def get(family: str) -> Model:
        if family not in built:
            built[family] = Model(build_module(family), None, name=family, source="random weights")
        return built[family]

    return get


def every_site(model: Model, part: str) -> tuple[Site, ...]:
    prefix = f"{part}:" if part else ""
    patterns = []
    for kind in model.parts[part].kinds:
        patterns.append(f"{prefix}{kind}" + {"embed": "", "final_norm": "", "head_out": ".*.*"}.get(kind, ".*"))
    return model.sites(patterns)


def arguments(model: Model, family: str, part: str, *, batch: int = 2) -> dict[str, torch.Tensor]:
    """What the part's root is called with."""
    given = example_inputs(family, model.module, batch=batch)
    inputs = model.parts[part].row.inputs
    if inputs == "text":
        return text_arguments(given["input_ids"], None, model.parts[part])
    wanted = {"image": ("pixel_values",), "audio": ("input_features",)}.get(inputs, ("input_ids", "pixel_values"))
    return {key: given[key] for key in wanted if key in given}


def read(model: Model, part: str, given: dict[str, torch.Tensor], sites) -> dict[str, torch.Tensor]:
    """As `Model.read`, from arguments."""
    found = model._read(model.sites(list(sites)), lambda: model._run(model.parts[part], dict(given)))
    return {site.name.removeprefix(f"{part}:"): tensor for site, tensor in found.items()}


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a - b).norm() <= tolerance * b.norm()) and float(b.norm()) > 0


def n_hooks(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


@pytest.mark.parametrize("family", KNOWN)
def test_each_part_is_proved_and_offers_what_it_should(models, family) -> None:
    model = models(family)
    assert list(model.parts) == [row.part for row in find_architectures(model.config)] or family == "t5_encoder"
    for name, part in model.parts.items():
        assert part.proof is not None
        assert 0 <= part.proof.error < 0.01 * TOLERANCE
        assert part.proof.n_blocks == part.n_layers
        assert part.proof.cross_checked == (family not in ("mamba", "mamba2"))
        assert set(part.kinds) == expected_kinds(family, name)


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_what_cannot_be_read_is_refused(family) -> None:
    with pytest.raises(ArchitectureError, match=REFUSED[family]):
        Model(build_module(family), None, name=family, source="random weights")


def test_every_row_of_the_table_is_tried_here(models) -> None:
    tried = {part.row.name.split(": ")[-1] for family in KNOWN for part in models(family).parts.values()}
    # Rows that differ from a tried one by a setting of the config alone.
    untried = {row.name.split(": ")[-1] for row in ARCHITECTURES} - tried
    assert untried == {"Gemma 3 (embedding)", "Granite 4 (hybrid)"}
    assert set(COMPOSITES) <= set(FAMILIES)


@pytest.mark.parametrize("family", KNOWN)
def test_every_site_can_be_read_and_adds_up(models, family) -> None:
    model = models(family)
    before = n_hooks(model)
    for name, part in model.parts.items():
        sites = every_site(model, name)
        found = read(model, name, arguments(model, family, name), sites)
        lead = found["embed"].shape[:2]
        for site in sites:
            tensor = found[site.name.removeprefix(f"{name}:")]
            assert tensor.shape == (*lead, part.width(site)), site
            assert torch.isfinite(tensor).all()
            # A head or an expert may be all but silent; a stream or a branch may not.
            assert float(tensor.norm()) > 0, site
        for layer in range(part.n_layers):
            heads = [found[s.name.removeprefix(f"{name}:")] for s in sites if s.kind == "head_out" and s.layer == layer]
            if not heads:
                continue
            port = part.block_ports(layer)["head_out"]
            bias = getattr(port.module, "bias", None)
            scale = part.port(Site("head_out", layer, 0, name)).scale
            whole = torch.stack(heads).sum(0) + (0 if bias is None else bias * scale)
            norms_after = part.row.attn_out is not None and part.row.attn_out.path not in ("", part.row.heads)
            if norms_after and "norm" in part.row.attn_out.path:
                continue
            if part.row.attn_out.path.startswith("layer_scale"):
                whole = part.blocks[layer].layer_scale1(whole)
            assert close(whole, found[f"attn_out.{layer}"], 1e-4)
    assert n_hooks(model) == before


@pytest.mark.parametrize("family", KNOWN)
def test_attention_patterns_are_what_transformers_says(models, family) -> None:
    model = models(family)
    for name, part in model.parts.items():
        if "attn_pattern" not in part.kinds or part.row.part == "decoder":
            continue
        given = arguments(model, family, name)
        sites = [s for s in every_site(model, name) if s.kind == "attn_pattern"]
        implementation = model.module.config._attn_implementation
        found = read(model, name, given, sites)
        assert model.module.config._attn_implementation == implementation
        for tensor in found.values():
            entropy, first, own, previous, distance = tensor.unflatten(-1, (part.n_heads, 5)).unbind(-1)
            assert (entropy > -1e-5).all()
            assert (distance >= 0).all()
            share = first + own + previous
            assert ((share >= 0) & (share < 2.01)).all()
            if part.row.causal:
                # The first token sees itself alone (and a sink outside the sequence, where there is one).
                assert (entropy[:, 0] < 0.4).all()
                assert torch.equal(first[:, 0], own[:, 0])
                if family != "gpt_oss":
                    assert torch.allclose(own[:, 0], torch.ones(()), atol=1e-5)


TEXT = tuple(f for f in KNOWN if f not in ("vit", "dinov2", "dinov2_swiglu", "gemma3", "llava", "whisper"))
TEXT = tuple(f for f in TEXT if f != "whisper_encoder")


@pytest.mark.parametrize("family", TEXT)
def test_padding_on_the_right_changes_no_token(models, family) -> None:
    model = models(family)
    for name, part in model.parts.items():
        if part.row.inputs != "text":
            continue
        generator = torch.Generator().manual_seed(3)
        rows = [torch.randint(3, 350, (n,), generator=generator) for n in (11, 4)]
        ids = torch.stack([rows[0], torch.cat([rows[1], torch.zeros(7, dtype=torch.long)])])
        mask = torch.arange(11)[None] < torch.tensor([[11], [4]])
        sites = every_site(model, name)
        together = read(model, name, text_arguments(ids, mask.long(), part), sites)
        for i, row in enumerate(rows):
            alone = read(model, name, text_arguments(row[None], None, part), sites)
            for key, tensor in together.items():
                got, want = tensor[i][: len(row)], alone[key][0]
                assert (got - want).norm() <= 2e-4 * want.norm() + 1e-5, (key, i)


@pytest.mark.parametrize("family", TEXT)
def test_padding_on_the_left_changes_no_token_or_is_refused(models, family) -> None:
    model = models(family)
    part = model.part
    if part.row.inputs != "text":
        pytest.skip("no text here")
    row = torch.randint(3, 350, (5,), generator=torch.Generator().manual_seed(4))
    ids = torch.stack([torch.cat([torch.zeros(4, dtype=torch.long), row]), torch.arange(3, 12)])
    mask = torch.stack([torch.arange(9) >= 4, torch.ones(9, dtype=torch.bool)]).long()
    if not part.row.causal or part.row.part:
        with pytest.raises(ModelError, match="pad them on the right"):
            text_arguments(ids, mask, part)
        return
    sites = [s for s in every_site(model, "") if s.kind in ("resid_post", "final_norm")]
    together = read(model, "", text_arguments(ids, mask, part), sites)
    alone = read(model, "", text_arguments(row[None], None, part), sites)
    for key, tensor in together.items():
        want = alone[key][0]
        assert (tensor[0][4:] - want).norm() <= 5e-4 * want.norm() + 1e-5, key


@pytest.mark.parametrize("family", KNOWN)
def test_an_edit_at_any_site_moves_what_it_should(models, family) -> None:
    """At every kind of site: the edited tensor is what is read there, and the block's equation holds with it."""
    model = models(family)
    before = n_hooks(model)
    for name, part in model.parts.items():
        given = arguments(model, family, name)
        prefix = f"{name}:" if name else ""
        plain = read(model, name, given, [s for s in every_site(model, name) if s.kind != "attn_pattern"])
        layers = {
            kind: next(
                i for i in range(part.n_layers) if part.has(Site(kind, i, 0 if kind == "head_out" else None, name))
            )
            for kind in part.kinds
            if kind not in ("embed", "final_norm", "attn_pattern")
        }
        for kind in [k for k in part.kinds if k != "attn_pattern"]:
            layer = layers.get(kind)
            site = model.sites(
                [prefix + kind if layer is None else f"{prefix}{kind}.{layer}" + (".1" if kind == "head_out" else "")]
            )[0]
            short = site.name.removeprefix(prefix)
            delta = torch.randn(part.width(site), generator=torch.Generator().manual_seed(1))
            delta = delta * (plain[short].norm(dim=-1).mean() / delta.norm())
            with model.editing(site, lambda _, x, delta=delta: x + delta):
                edited = read(model, name, given, [s for s in every_site(model, name) if s.kind != "attn_pattern"])
            assert close(edited[short], plain[short] + delta, 1e-4), kind
            if kind == "final_norm":
                assert close(edited[f"resid_post.{part.n_layers - 1}"], plain[f"resid_post.{part.n_layers - 1}"])
                continue
            at = 0 if layer is None else layer
            assert not close(edited[f"resid_post.{at}"], plain[f"resid_post.{at}"], 1e-3), kind
            check_equation(part, edited, at, site)
            if (
                kind == "head_out"
                and f"attn_out.{at}" in plain
                and part.row.attn_out.path in ("attn", "self_attn", "attention")
            ):
                assert close(edited[f"attn_out.{at}"] - plain[f"attn_out.{at}"], delta.expand_as(plain["embed"]), 1e-3)
    assert n_hooks(model) == before


def check_equation(part, found, layer: int, site: Site) -> None:
    """The block's sums hold of edited tensors too, except the one whose whole was itself edited."""
    for one in part.row.equation.sums:
        if any(kind.startswith("_") for kind in (one.whole, *one.terms)) or one.whole == site.kind:
            continue
        terms = [found[f"{kind}.{layer}"] for kind in one.terms if f"{kind}.{layer}" in found]
        total = torch.stack(terms).sum(0)
        if one.norm:
            with torch.no_grad():
                total = part.blocks[layer].get_submodule(one.norm)(total)
        assert close(total, found[f"{one.whole}.{layer}"], 1e-4), (site, one)


CACHED = tuple(
    family
    for family in TEXT
    if family not in ("t5_encoder", *MIXERS)
    and find_architectures(build_module(family).base_model.config)[0].caches
    and find_architectures(build_module(family).base_model.config)[0].causal
    and not find_architectures(build_module(family).base_model.config)[0].part
)


@pytest.mark.parametrize("family", CACHED)
def test_rows_go_on_from_a_shared_prefix(models, family) -> None:
    model = models(family)
    assert model.can_share_prefixes
    generator = torch.Generator().manual_seed(6)
    context = torch.randint(3, 350, (1, 9), generator=generator)
    stems = torch.randint(3, 350, (2, 4), generator=generator)
    tails = torch.randint(3, 350, (5, 6), generator=generator)
    lengths = torch.tensor([6, 2, 1, 5, 6])
    parents = torch.tensor([1, 0, 0, 1, 0])
    mask = torch.arange(6)[None] < lengths[:, None]
    sites = [s for s in every_site(model, "") if s.kind not in ("attn_pattern",)]
    first = model.prefix(context)
    second = model.prefix(stems, after=first)
    shared = model._read(model.sites(sites), lambda: model.forward(tails, mask.long(), after=second, rows=parents))
    again = model._read(model.sites(sites), lambda: model.forward(tails, mask.long(), after=second, rows=parents))
    for i in range(5):
        whole = torch.cat([context[0], stems[parents[i]], tails[i][: lengths[i]]])
        alone = model.read(whole[None], None, sites)
        for site, tensor in shared.items():
            want = alone[site][0][13:]
            got = tensor[i][: lengths[i]]
            assert (got - want).norm() <= 3e-4 * want.norm() + 1e-5, (site, i)
            assert torch.equal(tensor[i], again[site][i])
