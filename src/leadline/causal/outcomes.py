"""What plans do to examples, and the receiver of passes that works it out from logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logsumexp

from leadline.errors import CausalError

if TYPE_CHECKING:
    from leadline.causal.examples import Examples
    from leadline.causal.passes import Logits
    from leadline.causal.schedule import Continued

__all__ = ["Collected", "Outcomes"]

# Logits that exist at once, in numbers; a pass over them holds a handful of arrays of that size in float32.
_LOGITS = 1 << 24


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What V plans do to n examples. All arrays are float64; behaviour is NaN where no answers were given.

    Parameters
    ----------
    logit_difference : (V, n) log Σ p(positive answers) − log Σ p(negative answers), behind the prompt. Where answers
        are single tokens, this is the difference of the logsumexp of their logits; of longer answers p is the product
        over their tokens, each after those before it.
    p_positive, p_negative : (V, n) the summed probabilities of the answers.
    kl : (V, n) KL(clean ‖ edited) of the next token behind the prompt, in nats.
    readings : by name (V, n) scores of probes.
    norms : (V, n) the mean ‖h‖ of the clean activations at the tokens and the site of a plan's first intervention;
        NaN for a plan without any.
    clean : the same without interventions (V of 1, its `clean` None); None in itself.
    """

    logit_difference: np.ndarray
    p_positive: np.ndarray
    p_negative: np.ndarray
    kl: np.ndarray
    readings: dict[str, np.ndarray]
    norms: np.ndarray
    clean: Outcomes | None = None

    @property
    def change(self) -> np.ndarray:
        """(V, n) by how much the logit difference moved from the clean one.

        Raises
        ------
        CausalError : these are the clean outcomes.
        """
        if self.clean is None:
            raise CausalError("these are the outcomes without interventions, which change nothing; ask the others.")
        return np.asarray(self.logit_difference - self.clean.logit_difference)


@dataclass(frozen=True, eq=False)
class _Terms:
    """What is read of one sequence's logits: log p of `token` after `step` tokens of the answer, for answer `slot`."""

    step: np.ndarray
    token: np.ndarray
    slot: np.ndarray


@dataclass(eq=False)
class Collected:
    """Receives passes, and keeps of them what `Outcomes` holds."""

    examples: Examples
    sequences: list[Continued]
    keys: np.ndarray
    names: tuple[str, ...]
    vocabulary: int
    _terms: list[_Terms] = field(init=False)

    def __post_init__(self) -> None:
        n, n_plans = len(self.examples), len(self.keys)
        self.row = np.array([s.row for s in self.sequences])
        # What is read of the prompt is the same in all sequences of a row; the first gives it.
        self.primary = np.zeros(len(self.row), dtype=bool)
        self.primary[np.unique(self.row, return_index=True)[1]] = True
        self._terms = self._terms_of()
        width = max(len(p) + len(q) for p, q in zip(self.examples.positive, self.examples.negative, strict=True))
        # The clean outcomes stand last.
        self.log_p = np.zeros((n_plans + 1, n, max(1, width)))
        self.kl = np.zeros((n_plans + 1, n))
        self.scores = {name: np.full((n_plans + 1, n), np.nan) for name in self.names}
        self.norm = np.full((int(self.keys.max()) + 1, n), np.nan)
        self.untouched = np.ones((n_plans, len(self.sequences)), dtype=bool)
        self.clean_logits = torch.empty(0)
        self.place = np.zeros(len(self.sequences), dtype=np.int64)

    def _terms_of(self) -> list[_Terms]:
        found: list[list[tuple[int, int, int]]] = [[] for _ in self.sequences]
        of_row: dict[int, list[int]] = {}
        for q, sequence in enumerate(self.sequences):
            of_row.setdefault(sequence.row, []).append(q)
        for row, (positive, negative) in enumerate(zip(self.examples.positive, self.examples.negative, strict=True)):
            for slot, answer in enumerate((*positive, *negative)):
                begins = answer[:-1]
                q = next(
                    q
                    for q in of_row[row]
                    if self.sequences[q].ids[self.sequences[q].wanted + 1 :][: len(begins)] == begins
                )
                found[q] += [(step, token, slot) for step, token in enumerate(answer)]
        arrays = [np.array(sorted(own), dtype=np.int64).reshape(-1, 3) for own in found]
        return [_Terms(*own.T) for own in arrays]

    # ---- as a Receiver

    def clean(self, sequences: np.ndarray, logits: Logits | None) -> None:
        if logits is not None:
            self.place[sequences] = np.arange(len(sequences))
            self._score(None, sequences, logits)

    def edited(self, plans: np.ndarray, sequences: np.ndarray, logits: Logits | None) -> None:
        self.untouched[plans, sequences] = False
        if logits is not None:
            self._score(plans, sequences, logits)

    def read(self, name: str, plans: np.ndarray | None, sequences: np.ndarray, scores: np.ndarray) -> None:
        own = self.primary[sequences]
        rows = self.row[sequences[own]]
        if plans is None:
            # What passes do not come by stays as it is without edits.
            self.scores[name][:, rows] = scores[own]
        else:
            self.scores[name][plans[own], rows] = scores[own]

    def normed(self, key: int, sequences: np.ndarray, norms: np.ndarray) -> None:
        self.norm[key, self.row[sequences]] = norms

    def _score(self, plans: np.ndarray | None, sequences: np.ndarray, logits: Logits) -> None:
        """Add up the log-probabilities of answers, and compare with the clean next token, a few positions at a time."""
        terms = [self._terms[q] for q in sequences]
        n_steps = np.array([1 + (int(own.step.max()) if len(own.step) else 0) for own in terms])
        offset = np.concatenate([[0], np.cumsum(n_steps)])
        entry = np.repeat(np.arange(len(sequences)), n_steps)
        step = np.arange(offset[-1]) - offset[entry]
        at = np.array([self.sequences[q].wanted for q in sequences])[entry] + step
        line = np.concatenate([own.step + offset[b] for b, own in enumerate(terms)])
        token = np.concatenate([own.token for own in terms])
        slot = np.concatenate([own.slot for own in terms])
        # Terms of an entry are sorted by their step, so lines are sorted.
        v = np.full(len(sequences), len(self.keys)) if plans is None else plans
        rows = self.row[sequences]
        kept = []
        size = max(1, _LOGITS // self.vocabulary)
        for low in range(0, len(entry), size):
            some = slice(low, min(low + size, len(entry)))
            log_p = torch.log_softmax(logits(torch.from_numpy(entry[some]), torch.from_numpy(at[some])).float(), dim=-1)
            a, b = np.searchsorted(line, [some.start, some.stop])
            where = torch.from_numpy(line[a:b] - low).to(log_p.device), torch.from_numpy(token[a:b]).to(log_p.device)
            found = log_p[where].double().cpu().numpy()
            of = entry[line[a:b]]
            np.add.at(self.log_p, (v[of], rows[of], slot[a:b]), found)
            first = np.flatnonzero(step[some] == 0)
            if plans is None:
                kept.append(log_p[torch.from_numpy(first).to(log_p.device)])
                continue
            first = first[self.primary[sequences[entry[some][first]]]]
            of = entry[some][first]
            own = log_p if len(first) == len(log_p) else log_p[torch.from_numpy(first).to(log_p.device)]
            clean = self.clean_logits[torch.from_numpy(self.place[sequences[of]]).to(log_p.device)]
            # In place where it can be: these arrays are as large as the vocabulary.
            divergence = clean.exp().mul_(clean.sub_(own)).sum(dim=-1).clamp(min=0)
            self.kl[v[of], rows[of]] = divergence.double().cpu().numpy()
        if plans is None:
            self.clean_logits = torch.cat(kept)

    # ---- as Outcomes

    def outcomes(self) -> Outcomes:
        """Everything put together; plans that edit nothing have the clean outcomes."""
        n_plans = len(self.keys)
        v, q = np.nonzero(self.untouched)
        self.log_p[v, self.row[q]] = self.log_p[-1, self.row[q]]
        sides = [len(own) for own in self.examples.positive], [len(own) for own in self.examples.negative]
        slot = np.arange(self.log_p.shape[2])
        positive = slot < np.array(sides[0])[:, None]
        negative = ~positive & (slot < np.add(*sides)[:, None])
        if self.examples.has_answers:
            log_positive, log_negative = (
                logsumexp(np.where(own, self.log_p, -np.inf), axis=-1) for own in (positive, negative)
            )
            kl = self.kl
        else:
            log_positive = log_negative = kl = np.full(self.kl.shape, np.nan)
        norms = self.norm[self.keys]

        def some(rows: slice, clean: Outcomes | None) -> Outcomes:
            return Outcomes(
                logit_difference=(log_positive - log_negative)[rows],
                p_positive=np.exp(log_positive[rows]),
                p_negative=np.exp(log_negative[rows]),
                kl=kl[rows],
                readings={name: own[rows] for name, own in self.scores.items()},
                norms=norms if clean is not None else np.full((1, norms.shape[1]), np.nan),
                clean=clean,
            )

        return some(slice(0, n_plans), some(slice(n_plans, n_plans + 1), None))
