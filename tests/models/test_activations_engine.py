"""`extract` beyond whole rows of text: selections, kept tokens, shared beginnings, memory, parts, other modalities."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from families import build_module
from leadline.activations import Activations, Selection, extract, extract_all, merge
from leadline.activations.extract import extract_part, folder_name
from leadline.activations.writer import StoreWriter
from leadline.data import Dataset
from leadline.errors import ActivationsError, DataError, SiteError, StoreError
from leadline.events import Event
from leadline.models import load_model

torch = pytest.importorskip("torch")

TOLERANCE = 3e-5


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Messages:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.kind == kind]


def near(found: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= tolerance * np.abs(expected).max())


CITIES = ("Paris", "Lima", "Cairo", "Oslo", "Quito")


def cities(n: int = 20) -> Dataset:
    rows = [
        {
            "text": f"The city of {CITIES[i % 5]} is in {('France', 'Peru', 'Egypt')[i % 3]}, case {i // 3}.",
            "city": CITIES[i % 5],
            "label": i % 2,
        }
        for i in range(n)
    ]
    return Dataset.from_rows(rows, target="label")


def tokens_of(model, text: str, site: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Every token's activation of a text by itself, and where each stands."""
    given = model.tokenizer(text, return_offsets_mapping=True)
    ids = torch.tensor([given["input_ids"]])
    return model.read(ids, None, [site])[model.sites(site)[0]][0].numpy(), given["offset_mapping"]


# ---- selections


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("pool", ["last", "first", "mean", "max"])
def test_a_span_is_the_tokens_of_its_characters(tiny_model, tmp_path, family, pool) -> None:
    model, data, site = tiny_model(family), cities(), "resid_post.1"
    acts = extract(model, data, site, f"{pool}@span:city", out=tmp_path / "a")
    expected = []
    for row in data.frame.iter_rows(named=True):
        every, offsets = tokens_of(model, row["text"], site)
        start = row["text"].index(row["city"])
        end = start + len(row["city"])
        # By hand: a byte-level token may hold the space before its word.
        at = [
            i
            for i, (a, b) in enumerate(offsets)
            if a < end and b > start and row["text"][max(a, start) : min(b, end)].strip()
        ]
        assert at
        assert "".join(row["text"][a:b] for a, b in [offsets[i] for i in at]).strip() == row["city"]
        some = every[at].astype(np.float64)
        expected.append({"last": some[-1], "first": some[0], "mean": some.mean(0), "max": some.max(0)}[pool])
    assert near(acts.read(site), np.stack(expected))
    assert acts.tokens == f"{pool}@span:city"


def test_two_spans_are_two_stores(tiny_model, tmp_path) -> None:
    model, data = tiny_model("llama"), cities()
    extract(model, data, "resid_post.1", "last@span:city", out=tmp_path / "a")
    other = Dataset.from_frame(
        data.frame.with_columns(city=data.frame["text"].str.extract(r"(case \d+)")), target="label"
    )
    with pytest.raises(StoreError, match="something else"):
        extract(model, other, "resid_post.1", "last@span:city", out=tmp_path / "a")


def test_roles_of_a_chat(tiny_model, tmp_path) -> None:
    model, site = tiny_model("llama"), "resid_post.2"
    rows = [
        {
            "chat": [
                {"role": "user", "content": f"Where is {city}?"},
                {"role": "assistant", "content": "In France, in France."},
                {"role": "user", "content": "And Lima? "},
            ],
            "label": i % 2,
        }
        for i, city in enumerate(CITIES * 3)
    ]
    data = Dataset.from_rows(rows, text="chat", target="label")
    for role, contents in (("user", (0, 2)), ("assistant", (1,))):
        acts = extract(model, data, site, f"mean@role:{role}", out=tmp_path / role)
        for i in (0, 7):
            text = model.tokenizer.apply_chat_template(rows[i]["chat"], tokenize=False)
            ids = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            every = model.read(torch.tensor([ids["input_ids"]]), None, [site])[model.sites(site)[0]][0].numpy()
            inside = set()
            for c in contents:
                start = text.index(rows[i]["chat"][c]["content"].strip())
                end = start + len(rows[i]["chat"][c]["content"].strip())
                inside |= {
                    k
                    for k, (a, b) in enumerate(ids["offset_mapping"])
                    if a < end and b > start and text[max(a, start) : min(b, end)].strip()
                }
            assert near(acts.read(site)[i], every[sorted(inside)].mean(0))
    # Contents that the template writes too are found where they stand.
    hard = [
        {"chat": [{"role": "user", "content": "user"}, {"role": "assistant", "content": "s"}], "label": i % 2}
        for i in range(4)
    ]
    told = Dataset.from_rows(hard, text="chat", target="label")
    row = model.encode_rows(told.inputs[:1], offsets=True)[0]
    assert [(role, row.text[a:b], a) for role, a, b in row.messages] == [
        ("user", "user", len("<bos>user\n")),
        ("assistant", "s", len("<bos>user\nuser<eos>\n<bos>assistant\n")),
    ]
    with pytest.raises(ActivationsError, match=r"row 1: 'mean@role:system'.*same holds of 14 more rows"):
        extract(model, data, site, "role:system", out=tmp_path / "none")


@pytest.mark.parametrize(
    ("tokens", "pick"),
    [
        ("all@-3:", lambda n: range(n - 3, n)),
        ("all@every:4", lambda n: range(0, n, 4)),
        ("all", lambda n: range(n)),
        ("all@1:-1", lambda n: range(1, n - 1)),
    ],
)
@pytest.mark.parametrize("share", [True, False])
def test_kept_tokens(tiny_model, tmp_path, tokens, pick, share) -> None:
    model, data, site = tiny_model("llama"), cities(), "resid_post.1"
    acts = extract(model, data, ["embed", site], tokens, out=tmp_path / "a", batch_tokens=64, share_prefixes=share)
    assert acts.ragged
    rows = [tokens_of(model, text, site)[0] for text in data.texts]
    wanted = [list(pick(len(row))) for row in rows]
    assert acts.lengths.tolist() == [len(at) for at in wanted]
    assert acts.token_positions.tolist() == [i for at in wanted for i in at]
    assert near(acts.read(site), np.concatenate([row[at] for row, at in zip(rows, wanted)]))
    assert near(acts.read_row(site, 7), rows[7][wanted[7]])
    by_token = Activations.open(tmp_path / "a").by_token()
    assert by_token.n_rows == acts.n_tokens
    assert by_token.dataset.n == acts.n_tokens
    assert by_token.dataset.texts[0] == data.texts[0]


def test_a_sweep_reads_kept_tokens_row_by_row(tiny_model, tmp_path) -> None:
    import leadline as ll

    acts = extract(tiny_model("llama"), cities(40), "resid_post.1", "all@-3:", out=tmp_path / "a")
    found = ll.sweep(acts, ll.MeanDifference(), controls=None, permutations=99, bootstraps=100)
    assert found.labels.Y.shape[0] == acts.n_tokens
    # The tokens of a text are on one side of every fold.
    for row in range(40):
        assert len(set(found.fold[acts.token_rows == row].tolist())) == 1


def test_an_expression_and_a_row_without_a_match(tiny_model, tmp_path) -> None:
    model, data, site = tiny_model("llama"), cities(), "resid_post.1"
    acts = extract(model, data, site, r"last@regex:case (\d+)", out=tmp_path / "a")
    every, offsets = tokens_of(model, data.texts[4], site)
    digits = data.texts[4].index("case") + 5
    assert near(acts.read(site)[4], every[[i for i, (a, b) in enumerate(offsets) if a < digits + 1 and b > digits][-1]])
    with pytest.raises(ActivationsError, match=r"row 1: .*Atlantis"):
        extract(model, data, site, "regex:Atlantis", out=tmp_path / "b")


def test_words_of_a_sentence_are_read_in_one_pass(tiny_model, tmp_path) -> None:
    model, site = tiny_model("llama"), "resid_post.1"
    sentences = ["one two three four five", "The city of Paris is in France", "a probe reads one concept"]
    rows = [{"words": s.split(), "tag": [len(w) for w in s.split()]} for s in sentences]
    data = Dataset.from_words(rows, labels=["tag"], target="tag", kind="continuous")
    assert data.n == sum(len(s.split()) for s in sentences)
    seen: list[int] = []
    handle = model.trunk.register_forward_pre_hook(
        lambda _, a, k: seen.append(k["input_ids"].numel()), with_kwargs=True
    )
    try:
        acts = extract(model, data, site, "mean@span:word", out=tmp_path / "a")
    finally:
        handle.remove()
    assert sum(seen) < 2 * sum(len(model.encode([s])[0]) for s in sentences)
    k = 0
    for sentence in sentences:
        every, offsets = tokens_of(model, sentence, site)
        cursor = 0
        for word in sentence.split():
            start = sentence.index(word, cursor)
            cursor = start + len(word)
            at = [
                i
                for i, (a, b) in enumerate(offsets)
                if a < cursor and b > start and sentence[max(a, start) : min(b, cursor)].strip()
            ]
            assert near(acts.read(site)[k], every[at].astype(np.float64).mean(0).astype(np.float32), 1e-4)
            k += 1
    # Without sharing, and one by one, the same to rounding.
    apart = extract(model, data, site, "mean@span:word", out=tmp_path / "b", share_prefixes=False, batch_tokens=16)
    assert near(acts.read(site), apart.read(site))


def test_the_surface_of_a_word_is_the_word() -> None:
    from leadline.study.sweep import labels_of

    rows = [{"words": ["a", "probe", "reads"], "verb": [False, False, True]} for _ in range(8)]
    data = Dataset.from_words(rows, labels="verb")
    assert labels_of(data, data.targets[0]).texts == ["a", "probe", "reads"] * 8


# ---- what rows share


def few_shot(n: int = 60) -> Dataset:
    prompt = "one two three four five six seven eight nine ten. " * 6
    rows = [
        {"text": f"{prompt} The city of {CITIES[i % 5]} {'' if i % 2 else 'not '}is number {i // 2}", "label": i % 2}
        for i in range(n)
    ]
    return Dataset.from_rows(rows, target="label")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom", "falcon_new", "opt_post_norm", "deepseek_v3"])
@pytest.mark.parametrize("tokens", ["last", "mean", "all@-6:", "first"])
def test_shared_beginnings_change_nothing_but_rounding(tiny_model, tmp_path, family, tokens) -> None:
    model, data = (
        tiny_model(family, max_position_embeddings=512, n_positions=512) if family == "gpt2" else None,
        few_shot(),
    )
    if model is None:
        model = (
            tiny_model(family)
            if family == "bloom" or family.startswith("falcon")
            else tiny_model(family, max_position_embeddings=512)
        )
    sites = [*(["resid_mid.1"] if "resid_mid" in model.kinds else []), "embed", "head_out.1.*", "resid_post.*"]
    shared = extract(model, data, sites, tokens, out=tmp_path / "a", batch_tokens=128)
    apart = extract(model, data, sites, tokens, out=tmp_path / "b", batch_tokens=128, share_prefixes=False)
    plan = json.loads((tmp_path / "a" / "plan.json").read_text())
    assert "sharing" in plan["plan"]
    assert "sharing" not in json.loads((tmp_path / "b" / "plan.json").read_text())["plan"]
    for site in shared.sites:
        assert near(shared.read(site), apart.read(site), 2e-4), site


def test_what_is_shared_is_computed_once(tiny_model, tmp_path) -> None:
    model, data = tiny_model("llama", max_position_embeddings=512), few_shot()
    seen: list[int] = []
    handle = model.trunk.register_forward_pre_hook(
        lambda _, a, k: seen.append(k["input_ids"].numel()), with_kwargs=True
    )
    try:
        extract(model, data, "resid_post.1", out=tmp_path / "a", batch_tokens=256)
        shared = sum(seen)
        seen.clear()
        extract(model, data, "resid_post.1", out=tmp_path / "b", batch_tokens=256, share_prefixes=False)
    finally:
        handle.remove()
    assert shared < sum(seen) / 5


def test_an_encoder_shares_equal_rows_and_no_beginnings(tiny_model, tmp_path) -> None:
    model, data = tiny_model("bert", max_position_embeddings=512), few_shot(12)
    assert not model.can_share_prefixes
    twice = data.select([*range(12), *range(12)])
    acts = extract(model, twice, "resid_post.1", "mean", out=tmp_path / "a")
    apart = extract(model, twice, "resid_post.1", "mean", out=tmp_path / "b", share_prefixes=False)
    assert near(acts.read("resid_post.1"), apart.read("resid_post.1"))
    assert np.array_equal(acts.read("resid_post.1")[:12], acts.read("resid_post.1")[12:])


def test_a_run_that_shares_goes_on_where_it_stopped(tiny_model, tmp_path) -> None:
    # Not the last block: the trial of the cache must not end where this reading does.
    sites = "resid_post.0 resid_post.1"
    model, data = tiny_model("llama", max_position_embeddings=512), few_shot(200)
    whole = extract(model, data, sites, out=tmp_path / "a", batch_tokens=16)
    assert len(whole.manifest["shards"]) > 3
    extract(model, data, sites, out=tmp_path / "b", batch_tokens=16)
    for name in ("shard-00001.safetensors", "shard-00003.safetensors", "manifest.json"):
        (tmp_path / "b" / name).unlink()
    # As another process would, which has not tried the cache yet.
    again = tiny_model("llama", max_position_embeddings=512)
    extract(again, data, sites, out=tmp_path / "b", batch_tokens=16)
    for entry in whole.manifest["shards"]:
        assert (tmp_path / "b" / entry["file"]).read_bytes() == (tmp_path / "a" / entry["file"]).read_bytes()


# ---- memory, precision, stored dtypes


@pytest.mark.parametrize("share", [True, False])
def test_a_batch_that_does_not_fit_is_halved_and_recorded(tiny_model, tmp_path, share) -> None:
    model, data = tiny_model("llama"), cities(40)
    expected = extract(model, data, "resid_post.*", out=tmp_path / "a", batch_tokens=256, share_prefixes=share)

    def greedy(_, args, kwargs):
        if kwargs["input_ids"].shape[0] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

    heard = Messages()
    handle = model.trunk.register_forward_pre_hook(greedy, with_kwargs=True)
    try:
        acts = extract(
            model, data, "resid_post.*", out=tmp_path / "b", batch_tokens=256, share_prefixes=share, events=heard
        )
    finally:
        handle.remove()
    assert any("did not fit into memory and were halved" in message for message in heard.of("warning"))
    notes = [entry["halved"] for entry in acts.manifest["shards"] if "halved" in entry]
    assert notes
    assert all(one["passes"] > 1 for note in notes for one in note)
    for site in acts.sites:
        assert near(acts.read(site), expected.read(site))


def test_a_row_that_alone_does_not_fit_is_named(tiny_model, tmp_path) -> None:
    model = tiny_model("llama")

    def never(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    handle = model.trunk.register_forward_pre_hook(never)
    try:
        with pytest.raises(ActivationsError, match=r"row \d+ alone \(\d+ tokens\) does not fit into the memory of cpu"):
            extract(model, cities(), "resid_post.1", out=tmp_path / "a", share_prefixes=False)
    finally:
        handle.remove()


def test_another_error_of_the_model_is_not_taken_for_memory(tiny_model, tmp_path) -> None:
    model = tiny_model("llama")

    def broken(*_):
        raise RuntimeError("expected scalar type Float but found Half")

    handle = model.trunk.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="expected scalar type"):
            extract(model, cities(), "resid_post.1", out=tmp_path / "a")
    finally:
        handle.remove()


def test_half_precision_is_measured_against_float32(tiny_model, tmp_path) -> None:
    model, heard = tiny_model("llama", dtype="bfloat16"), Messages()
    weights = [p.clone() for p in model.module.parameters()]
    acts = extract(model, cities(), "resid_post.*", out=tmp_path / "a", events=heard)
    precision = acts.manifest["shards"][0]["precision"]
    assert set(precision["sites"]) == {"resid_post.0", "resid_post.1", "resid_post.2"}
    assert all(0.99 < figures["cosine"] < 1 and 0 < figures["error"] < 0.1 for figures in precision["sites"].values())
    assert any("against float32 on" in message for message in heard.of("note"))
    assert all(torch.equal(a, b) and b.dtype == torch.bfloat16 for a, b in zip(weights, model.module.parameters()))
    exact = extract(tiny_model("llama"), cities(), "resid_post.*", out=tmp_path / "b")
    assert "precision" not in exact.manifest["shards"][0]


@pytest.mark.parametrize(("stored", "bound"), [("float16", 1e-3), ("int8", 2e-2)])
def test_smaller_stores(tiny_model, tmp_path, stored, bound) -> None:
    model, data = tiny_model("llama"), cities()
    full = extract(model, data, "resid_post.*", "mean", out=tmp_path / "a")
    small = extract(model, data, "resid_post.*", "mean", out=tmp_path / "b", stored=stored)
    assert small.fingerprint != full.fingerprint
    for site in full.sites:
        assert small.read(site).dtype == np.float32
        assert near(small.read(site), full.read(site), bound)
        assert np.array_equal(small.rows(site, [3, 1]), small.read(site)[[3, 1]])


# ---- parts of the work


def test_parts_of_the_work_come_together(tiny_model, tmp_path) -> None:
    model, data = tiny_model("llama"), cities(60)
    whole = extract(model, data, "resid_post.*", out=tmp_path / "whole", batch_tokens=16)
    assert len(whole.manifest["shards"]) >= 3
    store = extract_part(model, data, "resid_post.*", out=tmp_path / "a", batch_tokens=16, shard="1/3")
    assert isinstance(store, StoreWriter)
    with pytest.raises(StoreError, match="missing"):
        merge(tmp_path / "a")
    with pytest.raises(StoreError, match="missing"):
        extract(model, data, "resid_post.*", out=tmp_path / "a", batch_tokens=16, shard=(2, 3))
    done = extract(model, data, "resid_post.*", out=tmp_path / "a", batch_tokens=16, shard="3/3")
    for entry in whole.manifest["shards"]:
        assert (tmp_path / "a" / entry["file"]).read_bytes() == (tmp_path / "whole" / entry["file"]).read_bytes()
    assert done.fingerprint == whole.fingerprint


def test_parts_done_in_folders_of_their_own_are_merged(tiny_model, tmp_path) -> None:
    model, data = tiny_model("llama"), cities(60)
    whole = extract(model, data, "resid_post.*", out=tmp_path / "whole", batch_tokens=16)
    for i in (1, 2):
        extract_part(model, data, "resid_post.*", out=tmp_path / str(i), batch_tokens=16, shard=(i, 2))
    for file in (tmp_path / "2").glob("shard-*"):
        (tmp_path / "1" / file.name).write_bytes(file.read_bytes())
    acts = merge(tmp_path / "1")
    acts.verify()
    assert all(np.array_equal(acts.read(site), whole.read(site)) for site in whole.sites)
    assert acts.dataset.fingerprint == data.fingerprint


@pytest.mark.parametrize("shard", ["0/3", "4/3", "a/b", "3", (1, 0)])
def test_a_part_that_is_none_is_refused(tiny_model, tmp_path, shard) -> None:
    with pytest.raises(ActivationsError, match="expected I/N"):
        extract(tiny_model("llama"), cities(), out=tmp_path / "a", shard=shard)


def test_several_models_and_data_sets_in_one_job(tiny_model, tmp_path) -> None:
    models = [tiny_model("llama"), tiny_model("gpt2")]
    one, two = cities(10), few_shot(6)
    object.__setattr__(two, "name", "few shot/../x")
    with pytest.raises(ActivationsError, match="two models have one name"):
        extract_all([models[0], models[0]], [one], out=tmp_path)
    found = extract_all(models[:1], [one], "resid_post.1", out=tmp_path, batch_tokens=64)
    assert [path.name for path in tmp_path.iterdir()] == [models[0].name]
    assert found[models[0].name, "rows"].n_rows == 10
    assert folder_name(two.name) == "few-shot-..-x"
    assert folder_name("../..") == "unnamed"


# ---- other inputs


def pictures(tmp_path, n: int = 9) -> Dataset:
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        file = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(file)
        rows.append({"file": str(file), "label": i % 2, "caption": f"the city {i}"})
    return Dataset.from_rows(rows, image="file", target="label")


@pytest.mark.parametrize("family", ["vit", "dinov2", "clip", "siglip"])
def test_pictures(tmp_path, family) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "pictures").mkdir()
    data = pictures(tmp_path / "pictures")
    tokenizer = None
    if family in ("clip", "siglip"):
        from conftest import build_tokenizer

        tokenizer = build_tokenizer()
    model = load_model(build_module(family), tokenizer=tokenizer, device="cpu")
    prefix = "vision:" if family in ("clip", "siglip") else ""
    sites = [f"{prefix}embed", f"{prefix}resid_post.*"]
    for tokens in ("first", "mean", "mean@patches", "all"):
        acts = extract(model, data, sites, tokens, out=tmp_path / tokens.replace("@", "-"), batch_tokens=40)
        part = model.parts[prefix.rstrip(":")]
        row = model.encode_rows([data.inputs[3]], part=part)[0]
        every = model.read_rows([row], model.sites(f"{prefix}resid_post.2"))[model.sites(f"{prefix}resid_post.2")[0]][
            0
        ].numpy()
        assert len(every) == row.length
        start = part.row.n_special if tokens == "mean@patches" else 0
        expected = every[0] if tokens == "first" else every[start:].mean(0) if tokens != "all" else every
        got = acts.read_row(f"{prefix}resid_post.2", 3) if acts.ragged else acts.read(f"{prefix}resid_post.2")[3]
        assert near(got, expected, 1e-4)
    if prefix:
        text = extract(model, cities(), "text:resid_post.*", out=tmp_path / "text")
        assert text.n_rows == 20
        with pytest.raises(SiteError, match="several parts"):
            extract(model, data, "vision:embed text:embed", out=tmp_path / "both")
        with pytest.raises(SiteError, match="has the parts vision, text; say which"):
            model.sites("resid_post.1")
        with pytest.raises(DataError, match=r"kind text, but this part of .* takes pictures"):
            extract(model, cities(), "vision:embed", out=tmp_path / "wrong")


def test_a_picture_that_cannot_be_read_is_named(tmp_path) -> None:
    pytest.importorskip("PIL")
    data = pictures(tmp_path)
    (tmp_path / "4.png").write_bytes(b"no picture")
    model = load_model(build_module("vit"), device="cpu")
    with pytest.raises(DataError, match=r"row 5: .*4.png"):
        extract(model, data, "resid_post.1", out=tmp_path / "a")


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_pictures_with_a_text(tmp_path, family) -> None:
    pytest.importorskip("PIL")
    from conftest import build_tokenizer

    (tmp_path / "pictures").mkdir()
    given = pictures(tmp_path / "pictures")
    # Of unequal lengths, with the picture first.
    unequal = [f"{caption}{' is in France' * (i % 3)}" for i, caption in enumerate(given.frame["caption"])]
    captions = given.frame.with_columns(pl.Series("caption", unequal))
    data = Dataset.from_frame(captions, image="file", text="caption", target="label")
    assert data.modality == "captioned"
    model = load_model(build_module(family), tokenizer=build_tokenizer(), device="cpu")
    row = model.encode_rows(data.inputs[:1])[0]
    assert row.parts["image"].sum() + row.parts["text"].sum() == row.length
    for tokens in ("mean@image", "mean@text", "last"):
        acts = extract(model, data, "resid_post.*", tokens, out=tmp_path / tokens)
        one = model.encode_rows([data.inputs[5]])[0]
        every = model.read_rows([one], model.sites("resid_post.2"))[model.sites("resid_post.2")[0]][0].numpy()
        expected = every[-1] if tokens == "last" else every[one.parts[tokens.split("@")[1]]].mean(0)
        assert near(acts.read("resid_post.2")[5], expected, 1e-4)
    tower = extract(model, given, "vision:resid_post.*", "mean", out=tmp_path / "tower")
    assert tower.n_rows == 9
    plain = extract(model, cities(), "resid_post.1", out=tmp_path / "plain")
    assert plain.n_rows == 20


def test_sounds(tmp_path) -> None:
    from scipy.io import wavfile
    from transformers import WhisperFeatureExtractor

    rows = []
    for i in range(4):
        file = tmp_path / f"{i}.wav"
        wave = np.sin(np.arange(4000 + 1000 * i) * (0.05 + 0.01 * i)).astype(np.float32)
        wavfile.write(file, 16_000 if i else 8_000, wave)
        rows.append({"file": str(file), "label": i % 2})
    data = Dataset.from_rows(rows, audio="file", target="label")
    module = build_module("whisper", max_source_positions=50)
    # A window in whole seconds, as the extractor counts it.
    seconds = 1
    processor = WhisperFeatureExtractor(feature_size=module.config.num_mel_bins, chunk_length=seconds)
    model = load_model(module, processor=processor, device="cpu")
    row = model.encode_rows([data.inputs[0]])[0]
    assert row.length == module.config.max_source_positions
    acts = extract(model, data, "encoder:resid_post.* encoder:final_norm", "mean", out=tmp_path / "a")
    assert acts.read("encoder:final_norm").shape == (4, 32)
    heard = extract(model, data, "encoder:resid_post.1", "mean@patches", out=tmp_path / "b")
    assert not near(heard.read("encoder:resid_post.1"), acts.read("encoder:resid_post.1"), 1e-3)


def test_both_sides_of_an_encoder_decoder(tiny_model, tmp_path) -> None:
    model, data = tiny_model("t5"), cities()
    encoder = extract(model, data, "encoder:resid_post.*", "mean", out=tmp_path / "e")
    decoder = extract(
        model, data, "decoder:resid_post.* decoder:cross_out.1", "last", out=tmp_path / "d", batch_tokens=32
    )
    ids = torch.tensor([model.encode(data.inputs[:1])[0]])
    shifted = torch.cat([torch.full_like(ids[:, :1], model.config.decoder_start_token_id), ids[:, :-1]], 1)
    with torch.no_grad():
        theirs = model.module(input_ids=ids, decoder_input_ids=shifted, output_hidden_states=True)
    assert near(encoder.read("encoder:resid_post.0")[0], theirs.encoder_hidden_states[1][0].mean(0).numpy(), 1e-4)
    assert near(decoder.read("decoder:resid_post.0")[0], theirs.decoder_hidden_states[1][0, -1].numpy(), 1e-4)
    # A decoder reads a token one place later: its span stands one place to the right.
    span = extract(model, data, "decoder:resid_post.0", "last@span:city", out=tmp_path / "s")
    offsets = model.tokenizer(data.texts[0], return_offsets_mapping=True)["offset_mapping"]
    end = data.texts[0].index(CITIES[0]) + len(CITIES[0])
    at = max(i for i, (a, b) in enumerate(offsets) if a < end <= b) + 1
    assert near(span.read("decoder:resid_post.0")[0], theirs.decoder_hidden_states[1][0, at].numpy(), 1e-4)


class Net(torch.nn.Module):
    """Convolutions, then a vector: no transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.layer1(x).mean((2, 3)))


def test_any_module(tmp_path) -> None:
    torch.manual_seed(0)
    net = Net()
    model = load_model(net, modules_only=True)
    x = np.random.default_rng(0).normal(size=(11, 3, 6, 5)).astype(np.float32)
    data = Dataset.from_arrays(x, targets=np.arange(11) % 2)
    acts = extract(model, data, "module:layer1 module:head module:layer1.0", "mean", out=tmp_path / "a", batch_tokens=4)
    with torch.no_grad():
        inner = net.layer1(torch.from_numpy(x))
        assert near(acts.read("module:layer1"), inner.mean((2, 3)).numpy())
        assert near(acts.read("module:head"), net(torch.from_numpy(x)).numpy())
    places = extract(model, data, "module:layer1", "all", out=tmp_path / "b")
    assert places.lengths.tolist() == [30] * 11
    assert near(places.read_row("module:layer1", 2), inner[2].flatten(1).T.numpy())
    with pytest.raises(ActivationsError, match="different numbers of positions"):
        extract(model, data, "module:layer1 module:head", "all", out=tmp_path / "c")
    with pytest.raises(SiteError, match="Did you mean 'layer1'"):
        extract(model, data, "module:layer2", out=tmp_path / "d")
    with pytest.raises(SiteError, match="named modules only"):
        extract(model, data, "resid_post.1", out=tmp_path / "e")
    with model.editing("module:layer1", lambda _, t: t * 0), torch.no_grad():
        assert torch.allclose(net(torch.from_numpy(x)), net.head.bias.expand(11, -1))
    assert "named modules only" in repr(model)


def test_a_transformer_by_its_modules_alone(tiny_models, tiny_tokenizer, tiny_model, tmp_path) -> None:
    module = tiny_models("llama")
    model = load_model(module, tokenizer=tiny_tokenizer, modules_only=True, device="cpu")
    data = cities()
    for tokens in ("last", "mean", "last@span:city"):
        acts = extract(
            model,
            data,
            "module:model.layers.1",
            tokens,
            out=tmp_path / f"a-{tokens[:4]}-{len(tokens)}",
            batch_tokens=64,
        )
        proved = extract(
            tiny_model("llama"), data, "resid_post.1", tokens, out=tmp_path / f"b-{tokens[:4]}-{len(tokens)}"
        )
        assert near(acts.read("module:model.layers.1"), proved.read("resid_post.1"), 1e-4)


def test_a_selection_that_is_not_for_pictures_leaves_no_plan(tmp_path) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "pictures").mkdir()
    model = load_model(build_module("vit"), device="cpu")
    with pytest.raises(ActivationsError, match="has no part 'image'"):
        extract(model, pictures(tmp_path / "pictures"), "resid_post.1", "image", out=tmp_path / "a")
    assert not (tmp_path / "a" / "plan.json").exists()


def test_a_selection_without_its_parts_is_told(tiny_model, tmp_path) -> None:
    with pytest.raises(ActivationsError, match="row 1: the row has no part 'image'"):
        extract(tiny_model("llama"), cities(), "resid_post.1", "image", out=tmp_path / "a")
    with pytest.raises(DataError, match=r"no column 'town'|has no column"):
        extract(tiny_model("llama"), cities(), "resid_post.1", "span:town", out=tmp_path / "a")
    assert Selection.parse("-3:").name == "mean@-3:"
