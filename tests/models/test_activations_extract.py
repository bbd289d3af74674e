"""`extract` on small models of every family: what is read, how it is found again, what goes wrong."""

from __future__ import annotations

import json
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from leadline.activations import Activations, extract
from leadline.activations.store import shard_name
from leadline.data import Dataset
from leadline.errors import ActivationsError, DataError, OutputError, SiteError, StoreError
from leadline.events import Event

torch = pytest.importorskip("torch")

FAMILIES = ("llama", "gpt2", "gpt_neox", "gpt_neox_sequential", "gemma2")
SITES = "embed resid_post.* mlp_out.1 final_norm"
# The largest difference allowed, as a share of the site's largest value: float32 sums in another order.
TOLERANCE = 2e-5

WORDS = ["the", "city", "of", "Paris", "is", "in", "France", "and", "a", "probe", "reads", "one", "two", "three", "by"]


def dataset(n: int = 23, seed: int = 0) -> Dataset:
    """Texts of 1 to 17 words, so that batches are padded and Gemma's sliding window is passed."""
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(WORDS, size=1 + i % 17)) + f" {i}" for i in generator.permutation(n)]
    return Dataset.from_rows([{"text": text, "label": i % 2} for i, text in enumerate(texts)], target="label")


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Recorder:
    """A sink that keeps every event, and may act on each."""

    def __init__(self, act=None):
        self.events: list[Event] = []
        self.act = act

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if self.act is not None:
            self.act(event)

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.kind == kind]


def reference(model, data, sites, tokens) -> dict[str, np.ndarray]:
    """Each row by itself, without padding or a mask, pooled in float64."""
    pool = {"last": lambda x: x[-1], "first": lambda x: x[0], "mean": lambda x: x.mean(0), "max": lambda x: x.max(0)}
    rows: dict[str, list[np.ndarray]] = {}
    for ids in model.encode(data.inputs):
        for site, x in model.read(torch.tensor([ids]), None, model.sites(sites)).items():
            rows.setdefault(site.name, []).append(pool[tokens](x[0].double().numpy()))
    return {name: np.stack(found) for name, found in rows.items()}


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- what is read


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", ["last", "first", "mean", "max"])
def test_batches_and_padding_change_nothing_but_rounding(tiny_model, tmp_path, family, tokens):
    model, data = tiny_model(family), dataset()
    expected = reference(model, data, SITES, tokens)
    for budget in (1, 37, 100_000):
        acts = extract(model, data, SITES, tokens, out=tmp_path / str(budget), batch_tokens=budget)
        assert [site.name for site in acts.sites] == list(expected)
        for site in acts.sites:
            assert_near(acts.read(site), expected[site.name])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_the_rows_changes_nothing_but_rounding(tiny_model, tmp_path, family):
    model, data = tiny_model(family), dataset()
    order = np.random.default_rng(1).permutation(data.n)
    straight = extract(model, data, SITES, "mean", out=tmp_path / "a", batch_tokens=64)
    mixed = extract(model, data.select(order), SITES, "mean", out=tmp_path / "b", batch_tokens=64)
    for site in straight.sites:
        assert_near(mixed.read(site), straight.read(site)[order])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", ["last", "first", "mean", "max"])
def test_padding_on_the_left_changes_nothing_but_rounding(tiny_model, tmp_path, family, tokens):
    from leadline.activations import Selection

    model, data = tiny_model(family), dataset(9)
    acts = extract(model, data, SITES, tokens, out=tmp_path / "s")
    ids = model.encode(data.inputs)
    seq = max(map(len, ids)) + 2
    padded = torch.tensor([[0] * (seq - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (seq - len(row)) + [1] * len(row) for row in ids])
    pool = Selection(tokens).pooler(mask)
    with torch.inference_mode():
        for site, x in model.read(padded, mask, acts.sites).items():
            assert_near(pool(x).numpy(), acts.read(site))


def test_bfloat16_is_pooled_in_float32(tiny_model, tmp_path):
    model, data = tiny_model("llama", dtype="bfloat16"), dataset()
    acts = extract(model, data, "resid_post.2", "mean", out=tmp_path / "s")
    assert acts.manifest["dtype"] == "bfloat16"
    values = acts.read("resid_post.2")
    # A mean held in bfloat16 would have 16 zero bits at its end.
    assert (values.view(np.uint32) & 0xFFFF).any()
    expected = reference(tiny_model("llama"), data, "resid_post.2", "mean")["resid_post.2"]
    assert np.abs(values - expected).max() < 0.05 * np.abs(expected).max()


def test_chats_are_read_through_the_template(tiny_model, tmp_path):
    chats = [{"messages": [{"role": "user", "content": f"{word} {i}"}], "label": i % 2} for i, word in enumerate(WORDS)]
    model, data = tiny_model("llama"), Dataset.from_rows(chats, text="messages", target="label")
    acts = extract(model, data, "resid_post.1", out=tmp_path / "s")
    assert_near(acts.read("resid_post.1"), reference(model, data, "resid_post.1", "last")["resid_post.1"])


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_computed_after_the_last_wanted_site(tiny_model, tmp_path, family):
    model = tiny_model(family)
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda _m, _a, _o, name=name: ran.append(name))
        for name, module in model.module.named_modules()
    ]
    extract(model, dataset(5), "embed resid_post.0", out=tmp_path / "s")
    assert any(".0." in name for name in ran)
    assert not [name for name in ran if ".1." in name or ".2." in name or "head" in name or "embed_out" in name]
    ran.clear()
    extract(model, dataset(5), "final_norm", out=tmp_path / "t")
    assert any(".2." in name for name in ran)
    assert not [name for name in ran if "head" in name or "embed_out" in name]
    for handle in handles:
        handle.remove()


# ---- the store is found, completed, refused


def test_a_complete_store_is_found_again(tiny_model, tmp_path):
    data, seen = dataset(), Recorder()
    first = extract(tiny_model("llama"), data, "resid_post.*", out=tmp_path / "s", events=seen)
    kinds = [event.kind for event in seen.events]
    assert (kinds[0], kinds[-1]) == ("start", "finish")
    assert seen.events[-2].done == seen.events[-2].total == first.manifest["n_tokens"]
    before = contents(tmp_path / "s")

    model, seen = tiny_model("llama"), Recorder()
    handle = model.trunk.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    again = extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=7, events=seen)
    handle.remove()
    assert [event.kind for event in seen.events] == ["note"]
    assert "nothing to compute" in seen.events[0].message
    assert again.fingerprint == first.fingerprint
    assert again.dataset is data
    assert contents(tmp_path / "s") == before


def test_without_a_folder_the_store_goes_into_the_cache_by_its_fingerprint(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("LEADLINE_HOME", str(tmp_path / "home"))
    model, data = tiny_model("llama"), dataset()
    acts = extract(model, data, "resid_post.1")
    assert acts.path == tmp_path / "home" / "activations" / acts.fingerprint
    prints = {
        extract(model, data, "resid_post.0").fingerprint,
        extract(model, data, "resid_post.1", "mean").fingerprint,
        extract(model, dataset(seed=3), "resid_post.1").fingerprint,
        extract(tiny_model("llama", seed=4), data, "resid_post.1").fingerprint,
        extract(tiny_model("llama", dtype="bfloat16"), data, "resid_post.1").fingerprint,
        acts.fingerprint,
    }
    assert len(prints) == 6


def test_another_store_in_the_folder_is_refused_and_overwritten_on_request(tiny_model, tmp_path):
    model, data = tiny_model("llama"), dataset()
    extract(model, data, "resid_post.*", out=tmp_path / "s")
    with pytest.raises(StoreError, match=r"tokens: last there, mean here.*overwrite=True"):
        extract(model, data, "resid_post.*", "mean", out=tmp_path / "s")
    acts = extract(model, data, "resid_post.*", "mean", out=tmp_path / "s", overwrite=True)
    assert acts.tokens == "mean"
    extract(model, data, "resid_post.*", "mean", out=tmp_path / "fresh")
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_a_request_that_fails_does_not_cost_the_store_it_would_replace(tiny_model, tmp_path):
    model = tiny_model("llama")
    extract(model, dataset(), "resid_post.*", out=tmp_path / "s")
    before = contents(tmp_path / "s")
    too_long = Dataset.from_rows([{"text": "word " * 500, "label": i % 2} for i in range(2)], target="label")
    with pytest.raises(DataError):
        extract(model, too_long, "resid_post.*", out=tmp_path / "s", overwrite=True)
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_the_same_extract_mends_a_damaged_shard_and_computes_no_other(tiny_model, tmp_path, damage):
    model, data = tiny_model("llama"), dataset()
    acts = extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=8)
    assert len(acts.manifest["shards"]) >= 3
    before = contents(tmp_path / "s")
    shard = tmp_path / "s" / shard_name(1)
    if damage == "missing":
        shard.unlink()
    else:
        with open(shard, "r+b") as file:
            file.truncate(shard.stat().st_size - 1)
    with pytest.raises(StoreError, match=r"shard-00001"):
        Activations.open(tmp_path / "s")
    seen = Recorder()
    extract(model, data, "resid_post.*", out=tmp_path / "s", events=seen)
    assert contents(tmp_path / "s") == before
    assert "shard-00001" in seen.messages("warning")[0]
    assert seen.events[-1].total < acts.manifest["n_tokens"]


def test_another_thread_count_is_said_on_going_on(tiny_model, tmp_path):
    model, data = tiny_model("llama"), dataset()
    extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=8)
    (tmp_path / "s" / "manifest.json").unlink()
    (tmp_path / "s" / shard_name(0)).unlink()
    plan = json.loads((tmp_path / "s" / "plan.json").read_text())
    plan["environment"]["threads"] = 99
    (tmp_path / "s" / "plan.json").write_text(json.dumps(plan))
    seen = Recorder()
    extract(model, data, "resid_post.*", out=tmp_path / "s", events=seen)
    assert f"threads 99, now {torch.get_num_threads()}" in seen.messages("warning")[0]


# ---- what goes wrong


def test_bad_requests(tiny_model, tmp_path):
    model, data = tiny_model("llama"), dataset()
    with pytest.raises(SiteError, match="Did you mean 'resid_post'"):
        extract(model, data, "resid_pots.*", out=tmp_path / "s")
    with pytest.raises(ActivationsError, match="Did you mean 'mean'"):
        extract(model, data, "embed", "meen", out=tmp_path / "s")
    with pytest.raises(ActivationsError, match="batch_tokens is 0"):
        extract(model, data, "embed", out=tmp_path / "s", batch_tokens=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        extract(model, data, "embed", out=tmp_path / "file")
    with pytest.raises(OutputError, match=r"cannot write to the folder|is a file"):
        extract(model, data, "embed", out=tmp_path / "file" / "s")
    assert not (tmp_path / "s").exists()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("leadline")]


def hooks(model) -> int:
    # transformers hangs some of its own at the first pass.
    model.forward(torch.tensor([[3, 4]]))
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


def test_activations_that_are_not_finite_are_never_stored(tiny_model, tmp_path):
    data = dataset()
    ids = tiny_model("llama").encode(data.inputs)
    # A token that stands in some rows only, and whose embedding overflows.
    odd = sorted({token for row in ids for token in row}, key=lambda t: sum(t in row for row in ids))[0]
    bad = [i for i, row in enumerate(ids) if odd in row]
    assert 0 < len(bad) < data.n
    model = tiny_model("llama", dtype="float16")
    with torch.no_grad():
        model.trunk.get_input_embeddings().weight[odd] = float("inf")
    before = hooks(model)
    with pytest.raises(ActivationsError) as caught:
        extract(model, data, "embed resid_post.0", "max", out=tmp_path / "s", batch_tokens=100_000)
    message = str(caught.value)
    assert "not finite at embed" in message
    assert "dtype='bfloat16' or dtype='float32'" in message
    assert all(str(i + 1) in message for i in bad[:3])
    assert not list((tmp_path / "s").glob("shard-*"))
    assert not (tmp_path / "s" / "manifest.json").exists()
    assert threads() == []
    assert hooks(model) == before


def test_an_interrupt_leaves_no_thread_and_no_hook_and_can_be_gone_on_from(tiny_model, tmp_path):
    model, data = tiny_model("llama"), dataset()
    extract(model, data, "resid_post.*", out=tmp_path / "whole", batch_tokens=8)
    before = hooks(model)

    def interrupt(event: Event) -> None:
        if event.kind == "progress" and event.done > event.total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=8, events=Recorder(interrupt))
    assert threads() == []
    assert hooks(model) == before
    seen = Recorder()
    # It goes on by the plan that is there, whatever budget is asked for now.
    extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=64, events=seen)
    assert "shards are there" in seen.messages("note")[0]
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@contextmanager
def files_of_at_most(n_bytes: int):
    """The kernel refuses to write further, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_in_an_error_and_the_store_can_be_completed(tiny_model, tmp_path):
    model, data = tiny_model("llama"), dataset()
    whole = extract(model, data, "resid_post.*", out=tmp_path / "whole", batch_tokens=16)
    sizes = [entry["bytes"] for entry in whole.manifest["shards"]]
    # The last shards hold the shortest rows, and the most of them.
    assert max(sizes) > sizes[0]
    with files_of_at_most(max(sizes) - 1), pytest.raises(OutputError, match="goes on where it stopped"):
        extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=16)
    assert threads() == []
    assert (tmp_path / "s" / shard_name(0)).exists()
    assert not (tmp_path / "s" / "manifest.json").exists()
    assert not list((tmp_path / "s").glob(".*"))
    extract(model, data, "resid_post.*", out=tmp_path / "s", batch_tokens=16)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_another_run_that_overtakes_does_no_harm(tiny_model, tmp_path):
    model, data = tiny_model("llama"), dataset()
    extract(model, data, "resid_post.*", out=tmp_path / "whole", batch_tokens=8)
    total = sum(1 for _ in (tmp_path / "whole").glob("shard-*"))
    for at in range(0, total * 8, 5):
        folder, count = tmp_path / f"s{at}", 0

        def overtake(event: Event, at=at, folder=folder) -> None:
            nonlocal count
            count += event.kind == "progress"
            if event.kind == "progress" and count == at + 1:
                extract(model, data, "resid_post.*", out=folder, batch_tokens=99)

        extract(model, data, "resid_post.*", out=folder, batch_tokens=8, events=Recorder(overtake))
        assert contents(folder) == contents(tmp_path / "whole")
        Activations.open(folder).verify()


def test_the_function_is_what_the_package_offers():
    # The module of the same name must not come to stand in the function's place.
    import leadline
    from leadline.activations.extract import extract as in_module

    assert leadline.extract is extract is in_module
