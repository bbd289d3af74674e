"""What a pass ends in, as a tensor that gradients flow through: a probe's score, or the log odds of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from leadline.activations.tokens import Selection, pool_positions
from leadline.causal.change import on_device, working_dtype
from leadline.causal.engine import reads_of, sequences_of
from leadline.errors import CausalError
from leadline.models.encoded import Encoded
from leadline.models.hooks import evaluating
from leadline.models.perplexity import has_plain_head, logits_of, why_no_perplexity

if TYPE_CHECKING:
    from leadline.causal.examples import Examples
    from leadline.causal.schedule import Continued
    from leadline.models.model import Model
    from leadline.probes.probe import Probe
    from leadline.sites import Site

__all__ = ["LogOdds", "Quantity", "Score"]


class Quantity(Protocol):
    """A number m of each row of some examples.

    Attributes
    ----------
    name : for a person.
    sequences : for each row what must be run: its prompt, perhaps with beginnings of answers behind it.
    """

    name: str
    sequences: list[list[Continued]]

    def measure(self, rows: Sequence[int], *, grad: bool = False) -> torch.Tensor:
        """(len(rows),) m, by one pass over all sequences of the rows, row after row, padded on the right."""
        ...


class Score:
    """A probe's score w·h + b, at its own site and tokens; the pass ends there.

    Raises
    ------
    CausalError : the probe is of another model or width, or its selection finds no token; as a reading of `run_plans`.
    """

    name = "score"

    def __init__(self, model: Model, probe: Probe, examples: Examples, span: str = "text") -> None:
        self._positions = reads_of(model, probe, self.name, examples, span)
        assert probe.site is not None
        if probe.site.kind != "module" and model.width(probe.site) != probe.d:
            raise CausalError(
                f"the probe reads {probe.d} dimensions, but '{probe.site}' of '{model.name}' has "
                f"{model.width(probe.site)}; it belongs to another model or another site."
            )
        self._model, self._site, self._rows = model, probe.site, examples.rows
        self._pool = Selection.parse(probe.tokens).pool
        self._coef, self._intercept = on_device(probe.coef, model), probe.intercept
        self.sequences = [[own] for own in sequences_of(examples)]

    def measure(self, rows: Sequence[int], *, grad: bool = False) -> torch.Tensor:
        """(len(rows),) scores, in the working dtype."""
        pool = pool_positions(self._pool, np.arange(len(rows)), [self._positions[i] for i in rows], self._model.device)
        found: list[torch.Tensor] = []

        def receive(site: Site, x: torch.Tensor) -> None:
            found.append(pool(x).to(self._coef.dtype) @ self._coef + self._intercept)

        with self._model.reading([self._site], receive):
            self._model.run(self._model.batch([self._rows[i] for i in rows]), grad=grad)
        return found[0]


class LogOdds:
    """log Σ p(positive answers) − log Σ p(negative answers) behind the prompt, as `Outcomes.logit_difference`.

    Raises
    ------
    CausalError : the examples have no answers, or the model gives none a probability.
    """

    name = "logit difference"

    def __init__(self, model: Model, examples: Examples) -> None:
        if not examples.has_answers:
            raise CausalError("the examples have no answers; give some, or a probe whose score is to be explained.")
        reason = why_no_perplexity(model)
        if reason:
            raise CausalError(
                f"no answer has a probability here: {reason}. Give a causal language model with its head."
            )
        self._model = model
        # Tried out before any hook is open.
        self._plain = has_plain_head(model)
        self._answers = [(p, q) for p, q in zip(examples.positive, examples.negative, strict=True)]
        self.sequences: list[list[Continued]] = [[] for _ in examples.rows]
        for one in sequences_of(examples):
            self.sequences[one.row].append(one)

    def measure(self, rows: Sequence[int], *, grad: bool = False) -> torch.Tensor:
        """(len(rows),) log odds, in the working dtype."""
        sequences = [own for i in rows for own in self.sequences[i]]
        # Of each log-probability: which sequence and position gives it, of which token, for which answer of which row.
        entry, at, token, place = (np.array(own, dtype=np.int64) for own in zip(*self._terms(rows), strict=True))
        width = int(place[:, 1].max()) + 1
        with torch.inference_mode(not grad), torch.set_grad_enabled(grad):
            lines, inverse = np.unique(np.stack([entry, at]), axis=1, return_inverse=True)
            log_p = torch.log_softmax(self._logits(sequences, *lines, grad=grad), dim=-1)
            terms = log_p[self._long(inverse.reshape(-1)), self._long(token)]
            sums = torch.zeros(len(rows) * width, dtype=terms.dtype, device=terms.device)
            sums = sums.index_add(0, self._long(place[:, 0] * width + place[:, 1]), terms).view(len(rows), width)
            sides = np.array([[len(side) for side in self._answers[i]] for i in rows])
            slot = np.arange(width)
            positive = slot < sides[:, :1]
            negative = ~positive & (slot < sides.sum(axis=1, keepdims=True))
            first, second = (
                sums.masked_fill(torch.from_numpy(~own).to(sums.device), float("-inf")).logsumexp(dim=-1)
                for own in (positive, negative)
            )
            return first - second

    def _terms(self, rows: Sequence[int]) -> list[tuple[int, int, int, tuple[int, int]]]:
        found, start = [], 0
        for r, i in enumerate(rows):
            own = self.sequences[i]
            for slot, answer in enumerate((*self._answers[i][0], *self._answers[i][1])):
                begins = answer[:-1]
                q = next(q for q, one in enumerate(own) if one.ids[one.wanted + 1 :][: len(begins)] == begins)
                found += [(start + q, own[q].wanted + step, id_, (r, slot)) for step, id_ in enumerate(answer)]
            start += len(own)
        return found

    def _logits(self, sequences: Sequence[Continued], entry: np.ndarray, at: np.ndarray, *, grad: bool) -> torch.Tensor:
        """(lines, vocabulary) in the working dtype."""
        model = self._model
        batch = model.batch([Encoded(ids=one.ids, length=len(one.ids)) for one in sequences])
        rows, positions = self._long(entry), self._long(at)
        if self._plain:
            hidden = model.run(batch, grad=grad)
            assert hidden is not None
            return logits_of(model.module, hidden[rows, positions]).to(working_dtype(model))
        with evaluating(model.module):
            # With padding to their right alone, rows that see nothing to their right need no mask.
            whole = model.module(input_ids=batch.arguments["input_ids"], use_cache=False).logits
        return torch.as_tensor(whole)[rows, positions].to(working_dtype(model))

    def _long(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._model.device)
