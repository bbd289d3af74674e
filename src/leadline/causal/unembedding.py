"""A direction, and a stream, read in the model's own words: through its final norm and its unembedding.

What is added to the stream at some block reaches the head past all later blocks unchanged, beside what those make of
it. So this is the direct effect alone; a direction that later blocks turn into something else reads as noise here.

References
----------
nostalgebraist (2020), Interpreting GPT: the logit lens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from leadline.activations.tokens import Selection, pool_positions
from leadline.causal.frozen import Frozen
from leadline.errors import CausalError
from leadline.models.hooks import evaluating, find_module
from leadline.models.perplexity import has_plain_head, logits_of, why_no_perplexity
from leadline.probes.probe import Probe
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["Lens", "TokenScore", "Unembedded", "logit_lens", "read_direction"]

# Rows that go through the head at once: logits are a number a token of the vocabulary.
_ROWS = 16
# Rows of the unembedding in float64 at once.
_VOCABULARY = 8192
_STREAM = (
    "embed",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "mixer_out",
    "head_out",
    "final_norm",
)


@dataclass(frozen=True)
class TokenScore:
    """A token of the vocabulary and how far a direction moves its logit.

    Parameters
    ----------
    text, id : the token. score : nats, beside the mean over the vocabulary, that its logit moves by when the direction
        is added at dose 1, as long as the stream itself. z : the same in standard deviations of that token's score over
        random directions: √d times the cosine between the direction and what raises the token.
    """

    text: str
    id: int
    score: float
    z: float


@dataclass(frozen=True, eq=False)
class Unembedded:
    """The tokens that a direction promotes most, and least.

    Parameters
    ----------
    top, bottom : the most extreme first.
    p_top, p_bottom : (1 + random directions whose most extreme z is as far out) / (1 + n_random).
    scores, z : (vocabulary,) float64 of all tokens, as in `TokenScore`.
    """

    top: tuple[TokenScore, ...]
    bottom: tuple[TokenScore, ...]
    p_top: float
    p_bottom: float
    n_random: int
    scores: np.ndarray
    z: np.ndarray

    def __repr__(self) -> str:
        def some(tokens: tuple[TokenScore, ...]) -> str:
            return " ".join(repr(token.text) for token in tokens[:5])

        return f"Unembedded(+ {some(self.top)} (p {self.p_top:.2g}); - {some(self.bottom)} (p {self.p_bottom:.2g}))"

    @property
    def table(self) -> pl.DataFrame:
        """A row a token, the top ones first: side, rank, token, id, score, z."""
        rows = [
            {"side": side, "rank": rank, "token": t.text, "id": t.id, "score": t.score, "z": t.z}
            for side, tokens in (("top", self.top), ("bottom", self.bottom))
            for rank, t in enumerate(tokens, 1)
        ]
        return pl.DataFrame(rows)


def read_direction(
    model: Model,
    vector: Probe | np.ndarray,
    k: int = 15,
    *,
    site: str | Site | None = None,
    by: str = "z",
    n_random: int = 99,
    seed: int = 0,
) -> Unembedded:
    """The tokens whose logits a direction raises and lowers most, through the final norm with its scale held fixed.

        score_t = √d · (γ ∘ v̂)·(W_t − W̄),    z_t = score_t / ‖γ ∘ (W_t − W̄)‖

    with γ the norm's gain, W the unembedding, W̄ its mean over tokens, and v̂ centred where the norm is a LayerNorm. Rows
    of W differ in length, so that the largest scores of any direction go to much the same tokens; z has the same spread
    for every token.

    Parameters
    ----------
    vector : (d,), made unit; of a probe its `pattern`, which is what stands in the stream (give `probe.direction` for
        the vector that reads).
    k : tokens on each side. site : where it stands; behind the final norm (`final_norm`) no norm follows.
    by : what tokens are sorted by, `"z"` or `"score"`.
    n_random : isotropic random directions, for whose most extreme tokens the vector's are compared with.

    Raises
    ------
    CausalError : a model without a head that reads its stream, or a vector of another width.
    """
    if by not in ("z", "score"):
        raise CausalError(f"tokens cannot be sorted by '{by}'; expected 'z' or 'score'.")
    where = vector.site if isinstance(vector, Probe) and site is None else site
    behind = where is not None and Site.parse(where).kind == "final_norm"
    _check(model, where)
    v = _unit(model, vector.pattern if isinstance(vector, Probe) else vector)
    rng = np.random.default_rng([seed, 71])
    directions = np.concatenate([v[None], rng.standard_normal((n_random, model.d_model))])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    given = torch.from_numpy(directions) * model.d_model**0.5
    frozen = None
    if model.architecture.final_norm and not behind:
        frozen = Frozen.of(_final_norm(model), model.d_model, model.part.weights, "final norm")
        given = frozen.push(given)
    slopes = _slopes(model, given[:1])[0]
    spread = _spread(model, frozen, given[0], slopes)
    z = slopes / spread
    farthest = [(float(z.max()), float(-z.min()))]
    for start in range(1, len(given), _ROWS):
        some = _slopes(model, given[start : start + _ROWS]) / spread
        farthest += zip(some.max(axis=1).tolist(), (-some.min(axis=1)).tolist(), strict=True)
    drawn = np.array(farthest)
    p = (1 + np.count_nonzero(drawn[1:] >= drawn[0], axis=0)) / (1 + n_random)
    order = np.argsort(z if by == "z" else slopes, kind="stable")

    def named(ids: np.ndarray) -> tuple[TokenScore, ...]:
        return tuple(TokenScore(_text(model, int(i)), int(i), float(slopes[i]), float(z[i])) for i in ids)

    return Unembedded(named(order[::-1][:k]), named(order[:k]), float(p[0]), float(p[1]), n_random, slopes, z)


@dataclass(frozen=True, eq=False)
class Lens:
    """What the stream at some sites would predict, if the model ended there.

    Parameters
    ----------
    sites : S of them. ids, p : (n, S, k) the likeliest tokens and their probabilities, the likeliest first.
    entropy : (n, S) of the whole prediction, nats. kl : (n, S) KL(what the model predicts ‖ what the site does), nats.
    words : text by token id.
    """

    sites: tuple[Site, ...]
    ids: np.ndarray
    p: np.ndarray
    entropy: np.ndarray
    kl: np.ndarray
    words: dict[int, str]

    @property
    def table(self) -> pl.DataFrame:
        """A row an input, a site and a rank: row, site, rank, token, p."""
        n, _, k = self.ids.shape
        rows = [
            {
                "row": i,
                "site": site.name,
                "rank": r + 1,
                "token": self.words[int(self.ids[i, s, r])],
                "p": self.p[i, s, r],
            }
            for i in range(n)
            for s, site in enumerate(self.sites)
            for r in range(k)
        ]
        return pl.DataFrame(rows)


def logit_lens(
    model: Model, inputs: Sequence[Any], sites: Any = "resid_post.*", tokens: str = "last", k: int = 5
) -> Lens:
    """Read the stream at each site through the model's own final norm and head.

    Parameters
    ----------
    inputs : n texts or chats. sites : sites of the stream. tokens : one token of each, as in `last` or `-2`.

    Raises
    ------
    CausalError : a model without a head that reads its stream, or a site that is not of the stream.
    """
    wanted = model.sites(sites)
    for site in wanted:
        _check(model, site)
        if site.kind not in ("embed", "resid_pre", "resid_mid", "resid_post", "final_norm"):
            raise CausalError(f"'{site.name}' is not the stream; give sites such as resid_post.*, embed or final_norm.")
    selection = Selection.parse(tokens)
    rows = model.encode_rows(inputs, offsets=selection.needs_offsets)
    end = (model.sites(["final_norm"]) if model.architecture.final_norm else ()) or (
        model.sites([f"resid_post.{model.n_layers - 1}"])
    )
    read = tuple(dict.fromkeys((*wanted, *end)))
    k = min(k, int(model.config.get_text_config().vocab_size))
    n = len(rows)
    ids, p = np.zeros((n, len(wanted), k), dtype=np.int64), np.zeros((n, len(wanted), k))
    entropy, kl = np.zeros((n, len(wanted))), np.zeros((n, len(wanted)))
    for start in range(0, n, _ROWS):
        some = rows[start : start + _ROWS]
        found = model.read_rows(some, read)
        pool = pool_positions(
            selection.pool, np.arange(len(some)), [selection.positions(r) for r in some], model.device
        )
        last = _log_p(model, pool(found[end[0]]), behind=end[0].kind == "final_norm")
        for s, site in enumerate(wanted):
            log_p = _log_p(model, pool(found[site]), behind=site.kind == "final_norm")
            best = log_p.topk(k, dim=-1)
            at = slice(start, start + len(some))
            ids[at, s], p[at, s] = best.indices.cpu().numpy(), best.values.exp().cpu().numpy()
            entropy[at, s] = -(log_p.exp() * log_p).sum(-1).cpu().numpy()
            kl[at, s] = (last.exp() * (last - log_p)).sum(-1).clamp(min=0).cpu().numpy()
    return Lens(wanted, ids, p, entropy, kl, {int(i): _text(model, int(i)) for i in np.unique(ids)})


def _log_p(model: Model, hidden: torch.Tensor, *, behind: bool) -> torch.Tensor:
    with torch.inference_mode(), evaluating(model.module):
        x = hidden.to(model.device, model.dtype)
        if not behind and model.architecture.final_norm:
            x = _final_norm(model)(x[:, None])[:, 0]
        return torch.log_softmax(logits_of(model.module, x).float(), dim=-1)


def _slopes(model: Model, x: torch.Tensor) -> np.ndarray:
    """(m, vocabulary) float64: by how much logits move per unit of x (m, d) behind the final norm, beside their mean.

    Through the model's own head, so that its scale counts; a cap of the logits has slope 1 at 0, where this is taken.
    """
    with torch.inference_mode(), evaluating(model.module):
        given = x.to(model.device, model.dtype)
        largest = (logits_of(model.module, given) - logits_of(model.module, -given)).float().abs().amax(-1) / 2
        # Small enough for a cap to be straight.
        size = (1 / largest.clamp(min=1e-6))[:, None]
        apart = [logits_of(model.module, (sign * size * given).to(model.dtype)).double() for sign in (1, -1)]
        slopes = (apart[0] - apart[1]) / (2 * size)
    slopes = slopes - slopes.mean(-1, keepdim=True)
    return np.asarray(slopes.cpu().numpy())


def _spread(model: Model, frozen: Frozen | None, x: torch.Tensor, slopes: np.ndarray) -> np.ndarray:
    """(vocabulary,) the standard deviation of each token's score over isotropic unit directions: c·‖γ ∘ (W_t − W̄)‖.

    c, by which the head scales its logits, follows from the scores of one direction x (d,) behind the norm's gain.
    """
    weight = model.module.get_output_embeddings().weight.detach()  # type: ignore[operator]
    mean = weight.mean(0, dtype=torch.float32).to("cpu", torch.float64)
    raw, length = np.empty(len(weight)), np.empty(len(weight))
    for start in range(0, len(weight), _VOCABULARY):
        at = slice(start, start + _VOCABULARY)
        rows = weight[at].to("cpu", torch.float64) - mean
        raw[at] = (rows @ x).numpy()
        pulled = rows if frozen is None else frozen.pull(rows, torch.ones(1, 1))
        length[at] = pulled.norm(dim=1).numpy()
    scale = float(slopes @ raw) / float(raw @ raw)
    # A row that is the mean itself moves with nothing.
    return np.asarray(np.maximum(abs(scale) * length, 1e-6 * abs(scale) * length.mean()))


def _final_norm(model: Model) -> torch.nn.Module:
    return find_module(model.part.root, model.architecture.final_norm)


def _check(model: Model, site: str | Site | None) -> None:
    reason = why_no_perplexity(model)
    if not reason and not has_plain_head(model):
        reason = f"the head of '{model.name}' needs more than the final hidden state"
    if not reason and model.module.get_output_embeddings().weight.shape[1] != model.d_model:  # type: ignore[operator]
        reason = f"the head of '{model.name}' reads another width than its stream has"
    if reason:
        raise CausalError(f"no direction reads as tokens here: {reason}. Give a causal language model with its head.")
    if site is not None and model.sites([site])[0].kind not in _STREAM:
        raise CausalError(f"'{site}' writes nothing into the stream that the head reads; give a site of the stream.")


def _unit(model: Model, vector: np.ndarray) -> np.ndarray:
    v = np.asarray(vector, dtype=np.float64)
    if v.shape != (model.d_model,) or not np.isfinite(v).all() or not v.any():
        raise CausalError(
            f"got a vector of shape {v.shape}; expected ({model.d_model},) finite numbers that are not all 0, as "
            f"wide as the stream of '{model.name}'."
        )
    return v / np.linalg.norm(v)


def _text(model: Model, token: int) -> str:
    tokenizer: Any = model.tokenizer
    return str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
