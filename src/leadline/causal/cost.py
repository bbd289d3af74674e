"""What an intervention costs: how much less likely neutral text becomes when it acts on all tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.causal.engine import places_of
from leadline.causal.examples import prompts
from leadline.causal.intervals import Intervals, ratio_interval
from leadline.causal.neutral import NEUTRAL
from leadline.causal.passes import EditedPasses, Logits
from leadline.causal.schedule import Continued
from leadline.errors import CausalError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.models.perplexity import n_vocab, why_no_perplexity
from leadline.models.texts import name_rows

if TYPE_CHECKING:
    from leadline.causal.plan import Plan
    from leadline.models.model import Model

__all__ = ["Cost", "perplexity_cost"]

_STAGE = "cost"
# Logits that exist at once, and clean log-probabilities that are kept rather than computed again, in numbers.
_LOGITS, _KEPT = 1 << 24, 1 << 26


@dataclass(frozen=True, eq=False)
class Cost:
    """What V plans cost on n texts.

    Parameters
    ----------
    change : (V,) the mean change of the negative log-likelihood, in nats a token, with intervals over texts; the
        perplexity is multiplied by exp(change).
    kl : (V,) KL(clean ‖ edited) of the next token, in nats a token, with intervals over texts.
    nll, clean_nll : (V, n) and (n,) the mean negative log-likelihood of each text, in nats a token.
    token_kl : (V, n) the mean KL of each text, in nats a token.
    n_tokens : (n,) how many tokens are predicted.
    """

    change: Intervals
    kl: Intervals
    nll: np.ndarray
    clean_nll: np.ndarray
    token_kl: np.ndarray
    n_tokens: np.ndarray

    @property
    def perplexity_ratio(self) -> Intervals:
        """(V,) by what the perplexity is multiplied: 1.1 is 10% more."""
        return Intervals(np.exp(self.change.value), np.exp(self.change.low), np.exp(self.change.high))


def perplexity_cost(
    model: Model,
    plans: Sequence[Plan],
    texts: Sequence[str] = NEUTRAL,
    *,
    tokens: str = "1:",
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> Cost:
    """Let plans act on every token of neutral texts but the first, whatever they select elsewhere.

    The first token is spared since many models keep a vast norm there, which other tokens attend to; a dose relative
    to it means something else.

    Parameters
    ----------
    model : a causal language model with its head.
    plans : V plans with the same values for every row.
    texts : n texts of at least two tokens.
    tokens : the selection that the interventions are given.

    Raises
    ------
    CausalError : the model gives no likelihood, a plan has values row by row, or a text has one token.
    """
    reason = why_no_perplexity(model)
    if reason:
        raise CausalError(f"no text has a likelihood here: {reason}. Give a causal language model with its head.")
    moved = [type(plan)(*(_moved(one, tokens) for one in plan.interventions)) for plan in plans]
    examples = prompts(model, texts, positive=(), negative=())
    short = [i for i, row in enumerate(examples.rows) if row.length < 2]
    if short:
        raise CausalError(f"nothing is predicted in texts of one token: {name_rows(short)}; leave them out.")
    bounds = [plan.bind(model) for plan in moved]
    keys, places, sites = places_of(moved, bounds, examples)
    sequences = [Continued(i, tuple(row.ids), 0) for i, row in enumerate(examples.rows)]
    passes = EditedPasses(
        model,
        bounds,
        keys,
        places,
        sequences,
        first_sites=sites,
        readings={},
        behaviour=True,
        batch_tokens=batch_tokens,
    )
    found = _Summed(sequences, len(plans), n_vocab(model.module))
    total, done = len(plans) * len(sequences), 0
    with stage(events, _STAGE, f"{len(plans)} plans on {len(sequences)} neutral texts", total, "passes"):
        for more in passes.run(found):
            done += more
            events.emit(Event("progress", _STAGE, done=done, total=total, unit="passes"))
    return found.cost()


def _moved(intervention: Any, tokens: str) -> Any:
    """The same intervention at other tokens of other rows."""
    if intervention.n_rows is not None:
        raise CausalError(
            f"a {type(intervention).__name__} with values row by row means nothing on other texts; measure the cost of "
            f"one with the same value for all rows."
        )
    return replace(intervention, tokens=tokens)


@dataclass(eq=False)
class _Summed:
    """Receives passes and adds up losses and divergences of each text."""

    sequences: list[Continued]
    n_plans: int
    vocabulary: int
    n_tokens: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.sequences)
        self.n_tokens = np.array([len(s.ids) - 1 for s in self.sequences])
        # The clean sums stand last.
        self.nll, self.kl = np.zeros((self.n_plans + 1, n)), np.zeros((self.n_plans + 1, n))
        self.untouched = np.ones((self.n_plans, n), dtype=bool)
        self.place = np.zeros(n, dtype=np.int64)
        self.offset = np.zeros(n, dtype=np.int64)
        self.table: torch.Tensor | None = None
        self.clean_logits: Logits | None = None

    def clean(self, sequences: np.ndarray, logits: Logits | None) -> None:
        self.place[sequences] = np.arange(len(sequences))
        counts = self.n_tokens[sequences]
        self.offset[sequences] = np.cumsum(counts) - counts
        self.clean_logits = logits
        kept: list[torch.Tensor] | None = [] if int(counts.sum()) * self.vocabulary <= _KEPT else None
        self._sum(None, sequences, logits, kept)
        self.table = torch.cat(kept) if kept is not None else None

    def edited(self, plans: np.ndarray, sequences: np.ndarray, logits: Logits | None) -> None:
        self.untouched[plans, sequences] = False
        self._sum(plans, sequences, logits, None)

    def read(self, name: str, plans: np.ndarray | None, sequences: np.ndarray, scores: np.ndarray) -> None:
        raise NotImplementedError("no probe is read here")

    def normed(self, key: int, sequences: np.ndarray, norms: np.ndarray) -> None:
        pass

    def _sum(
        self, plans: np.ndarray | None, sequences: np.ndarray, logits: Logits | None, kept: list[torch.Tensor] | None
    ) -> None:
        assert logits is not None
        counts = self.n_tokens[sequences]
        entry = np.repeat(np.arange(len(sequences)), counts)
        at = np.arange(len(entry)) - np.repeat(np.cumsum(counts) - counts, counts)
        target = np.concatenate([self.sequences[q].ids[1:] for q in sequences])
        v = np.full(len(sequences), self.n_plans) if plans is None else plans
        size = max(1, _LOGITS // self.vocabulary)
        for low in range(0, len(entry), size):
            own, position = entry[low : low + size], at[low : low + size]
            log_p = torch.log_softmax(logits(torch.from_numpy(own), torch.from_numpy(position)).float(), dim=-1)
            wanted = torch.from_numpy(target[low : low + size]).to(log_p.device)
            losses = -log_p.gather(1, wanted[:, None])[:, 0].double().cpu().numpy()
            np.add.at(self.nll, (v[own], sequences[own]), losses)
            if kept is not None:
                kept.append(log_p)
            if plans is not None:
                clean = self._clean_of(sequences[own], position, log_p.device)
                divergence = (clean.exp() * (clean - log_p)).sum(dim=-1).clamp(min=0).double().cpu().numpy()
                np.add.at(self.kl, (v[own], sequences[own]), divergence)

    def _clean_of(self, sequences: np.ndarray, position: np.ndarray, device: torch.device) -> torch.Tensor:
        if self.table is not None:
            return self.table[torch.from_numpy(self.offset[sequences] + position).to(device)]
        assert self.clean_logits is not None
        logits = self.clean_logits(torch.from_numpy(self.place[sequences]), torch.from_numpy(position))
        return torch.log_softmax(logits.float(), dim=-1)

    def cost(self) -> Cost:
        v, q = np.nonzero(self.untouched)
        self.nll[v, q] = self.nll[-1, q]
        nll, clean, kl = self.nll[:-1], self.nll[-1], self.kl[:-1]
        tokens = self.n_tokens.astype(np.float64)
        return Cost(
            change=ratio_interval(nll - clean, tokens),
            kl=ratio_interval(kl, tokens),
            nll=nll / tokens,
            clean_nll=clean / tokens,
            token_kl=kl / tokens,
            n_tokens=self.n_tokens,
        )
