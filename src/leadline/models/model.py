"""`Model`: a loaded, proved model that can be read at its sites."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from leadline.errors import DataError, ModelError, SiteError
from leadline.models.architectures import Architecture, find_architecture
from leadline.models.check import Proof, prove
from leadline.models.hooks import Readings, Receive, evaluating, find_module
from leadline.sites import Site, expand_sites

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Model"]

# Chat messages in the form of transformers: {"role": ..., "content": ...}.
Input = str | Sequence[Mapping[str, Any]]

# What a config says about how it was saved or is to be run, not about what the model computes.
_VOLATILE = frozenset(
    {
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
    }
)
_CHUNK = 1 << 26
# A batch of `activations_of`, in tokens.
_SCORING_TOKENS = 4096


class Model:
    """A transformer whose residual equation has been proved, with its tokenizer.

    Making one proves it (`leadline.models.check`), so there is no unproved Model. Use `load_model`. One thread at a
    time may read it.

    Parameters
    ----------
    module : a transformers model, with or without its language-model head.
    tokenizer : its tokenizer.
    name : for a person, as in `"smollm2-135m"`.
    source : where it was loaded from.
    architecture : a row for a model that the table does not know; None looks it up.

    Attributes
    ----------
    trunk : the part of `module` that is run: everything up to the final norm, never a head.
    architecture, proof : the row that says where the sites are, and what was found at load.
    n_layers, d_model, n_heads, n_parameters : sizes.
    max_tokens : the longest input the model takes, or None where its config sets no limit.

    Raises
    ------
    ArchitectureError : no row fits, or the row is disproved on the model's weights.
    ModelError : the weights are not loaded, or not finite.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        source: str,
        architecture: Architecture | None = None,
    ) -> None:
        if any(parameter.is_meta for parameter in module.parameters()):
            raise ModelError(f"the weights of '{name}' are not loaded (they are on the meta device); load them first.")
        self.name = name
        self.source = source
        self.module = module
        self.tokenizer = tokenizer
        self.architecture = architecture or find_architecture(getattr(module, "config", None))
        self.config = cast("Any", module.config)
        self.trunk: nn.Module = getattr(module, "base_model", module)
        self.proof: Proof = prove(self.trunk, self.architecture)
        self.n_layers = len(find_module(self.trunk, self.architecture.blocks))  # type: ignore[arg-type]
        self.d_model = int(self.config.hidden_size)
        self.n_heads = int(self.config.num_attention_heads)
        self.n_parameters = sum(parameter.numel() for parameter in module.parameters())
        self.max_tokens: int | None = getattr(self.config, "max_position_embeddings", None)
        self._readings = Readings(self.trunk, self.architecture)

    def __repr__(self) -> str:
        return (
            f"Model('{self.name}', {self.architecture.name}, {self.n_layers} layers, d_model {self.d_model}, "
            f"{self.n_parameters / 1e6:,.1f} M parameters, {str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    @property
    def _embeddings(self) -> torch.Tensor:
        return self.trunk.get_input_embeddings().weight  # type: ignore[operator]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the residual stream's weights."""
        return self._embeddings.dtype

    @property
    def device(self) -> torch.device:
        """Where the model's input goes."""
        return self._embeddings.device

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of site that this architecture offers."""
        return self.architecture.kinds

    def sites(self, patterns: str | Site | Iterable[str | Site]) -> tuple[Site, ...]:
        """Expand site patterns into this model's sites, in the order of computation.

        Raises
        ------
        SiteError : a pattern outside the grammar, or a site that this model does not have.
        """
        return expand_sites(patterns, n_layers=self.n_layers, n_heads=self.n_heads, offered=self.kinds)

    def width(self, site: str | Site) -> int:
        """The number of dimensions at a site."""
        self._one(site)
        return self.d_model

    def _one(self, site: str | Site) -> Site:
        found = self.sites([site])
        if len(found) != 1:
            raise SiteError(f"'{site}' names {len(found)} sites; expected one, as in '{found[0].name}'.")
        return found[0]

    # ---- text to token ids

    def encode(self, inputs: Sequence[Input]) -> list[list[int]]:
        """Turn texts or chats into token ids, unpadded and uncut.

        A text gets the special tokens that the tokenizer itself adds. A chat goes through the tokenizer's chat
        template, without a prompt for the answer.

        Parameters
        ----------
        inputs : a text, or a sequence of messages `{"role": ..., "content": ...}`, per row.

        Raises
        ------
        DataError : a row without any token, one longer than the model takes, or a chat that the tokenizer has no
            template for or that its template refuses; names the rows.
        ModelError : the tokenizer is not this model's: it gives ids that the model has no embedding for.
        """
        if isinstance(inputs, str):
            raise DataError("encode takes a list of texts or chats, but was given one text; put it in a list.")
        texts = {i: row for i, row in enumerate(inputs) if isinstance(row, str)}
        chats = {i: self._render(i, row) for i, row in enumerate(inputs) if not isinstance(row, str)}
        ids: list[list[int]] = [[]] * len(inputs)
        # A template writes the special tokens itself; the tokenizer must not add them again.
        for rows, special in ((texts, True), (chats, False)):
            if rows:
                encoded = self.tokenizer(
                    list(rows.values()),
                    add_special_tokens=special,
                    padding=False,
                    truncation=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                    verbose=False,
                )["input_ids"]
                for i, row in zip(rows, encoded, strict=True):
                    ids[i] = list(row)
        self._check(ids)
        return ids

    def _render(self, i: int, messages: Any) -> str:
        from jinja2 import TemplateError

        well_formed = (
            isinstance(messages, Sequence)
            and len(messages) > 0
            and all(isinstance(m, Mapping) and "role" in m and "content" in m for m in messages)
        )
        if not well_formed:
            raise DataError(
                f"row {i} is neither a text nor a chat; expected a string, or a list of "
                f"{{'role': ..., 'content': ...}} with at least one message."
            )
        if not getattr(self.tokenizer, "chat_template", None):
            raise DataError(
                f"row {i} is a chat, but the tokenizer of '{self.name}' has no chat template; give the data as plain "
                f"texts, or a model that was tuned for chat."
            )
        try:
            rendered = self.tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False)
        except TemplateError as error:
            raise DataError(
                f"row {i}: the chat template of '{self.name}' refuses these messages ({error}); change their roles or "
                f"order to what it takes."
            ) from error
        return str(rendered)

    def _check(self, ids: list[list[int]]) -> None:
        empty = [i for i, row in enumerate(ids) if not row]
        if empty:
            raise DataError(f"no tokens in {_rows(empty)}; every row needs some text. Remove them or fill them in.")
        if self.max_tokens is not None:
            long = [i for i, row in enumerate(ids) if len(row) > self.max_tokens]
            if long:
                raise DataError(
                    f"longer than the {self.max_tokens:,} tokens that '{self.name}' takes: {_rows(long)} (the longest "
                    f"has {max(len(ids[i]) for i in long):,}). Shorten or remove them; nothing is cut off silently."
                )
        n_known = self._embeddings.shape[0]
        foreign = [i for i, row in enumerate(ids) if max(row) >= n_known]
        if foreign:
            raise ModelError(
                f"the tokenizer gives ids up to {max(max(ids[i]) for i in foreign)} in {_rows(foreign)}, but "
                f"'{self.name}' has {n_known} embeddings; give the model's own tokenizer."
            )

    # ---- reading

    @contextmanager
    def reading(self, sites: Iterable[Site], receive: Receive) -> Iterator[None]:
        """Hand the tensor of each site to `receive` as soon as it appears, in every `forward` inside the body.

        So a tensor can be pooled at once and be freed. The hooks are gone when the body ends, however it ends.
        Readings may be nested, and one may be opened inside another's `receive`.

        Parameters
        ----------
        sites : sites of this model, as `Model.sites` gives them.
        receive : called with the site and its tensor (batch, seq, width), which is the model's own: it must not be
            written to, and to keep it, clone it. An exception raised here leaves `forward`.

        Raises
        ------
        SiteError : a site that this model does not have.
        """
        with evaluating(self.module), self._readings.reading(self.sites(list(sites)), receive):
            yield

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor | None:
        """Make one pass through the trunk, serving the open readings; nothing after their last site is computed.

        Parameters
        ----------
        input_ids : (batch, seq) token ids, padded with any token on either side.
        attention_mask : (batch, seq), 1 at real tokens; None where all are real.

        Returns
        -------
        The final hidden state (batch, seq, d_model), or None if the pass ended early.

        Raises
        ------
        ModelError : the shapes do not fit, or a row has no real token.
        """
        arguments = self._arguments(input_ids, attention_mask)
        with torch.inference_mode(), evaluating(self.module):
            output = self._readings.run(
                lambda: self.trunk(**arguments, use_cache=False, output_hidden_states=False, return_dict=True)
            )
        return None if output is None else output.last_hidden_state

    def read(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, sites: Iterable[Site]
    ) -> dict[Site, torch.Tensor]:
        """The activations at some sites, by one pass that ends at the last of them.

        Returns
        -------
        For each site, in the order of computation, its own (batch, seq, width) tensor in the model's dtype and on its
        device. What stands at padding is meaningless.

        Raises
        ------
        SiteError : a site that this model does not have.
        ModelError : the shapes do not fit, or a row has no real token.
        """
        wanted = self.sites(list(sites))
        found: dict[Site, torch.Tensor] = {}

        def keep(site: Site, tensor: torch.Tensor) -> None:
            found[site] = tensor.clone()

        with self.reading(wanted, keep):
            self.forward(input_ids, attention_mask)
        return {site: found[site] for site in wanted}

    def activations_of(self, inputs: Sequence[Input], site: str | Site, tokens: str = "last") -> np.ndarray:
        """Pooled activations of a few texts or chats at one site, in memory; `leadline.extract` is for whole data sets.

        Parameters
        ----------
        inputs : n texts or chats. tokens : a token selection, as in `extract`.

        Returns
        -------
        (n, width) float32, in the order of `inputs`.

        Raises
        ------
        SiteError, DataError, ActivationsError : an unknown site, an empty or too long input, an unknown selection.
        """
        # The rule of pooling belongs to the activations; it needs no model, so nothing leads back here.
        from leadline.activations.tokens import Selection

        wanted, selection = self._one(site), Selection.parse(tokens)
        ids = self.encode(inputs)
        found = np.empty((len(ids), self.width(wanted)), dtype=np.float32)
        # Rows of one length go together, so that nothing is padded and a text's score has no neighbours in it.
        for length in sorted({len(row) for row in ids}):
            rows = [i for i, row in enumerate(ids) if len(row) == length]
            size = max(1, _SCORING_TOKENS // length)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                batch = torch.tensor([ids[i] for i in part])
                mask = torch.ones_like(batch)
                tensor = self.read(batch, mask, [wanted])[wanted]
                found[part] = selection.pooler(mask, self.device)(tensor).float().cpu().numpy()
        return found

    def _arguments(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
        if input_ids.ndim != 2 or not input_ids.numel():
            raise ModelError(f"input_ids has the shape {tuple(input_ids.shape)}; expected (batch, seq), both over 0.")
        if attention_mask is None:
            return {"input_ids": input_ids.to(self.device)}
        if attention_mask.shape != input_ids.shape:
            raise ModelError(
                f"attention_mask has the shape {tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}; "
                f"expected the same."
            )
        mask = attention_mask.bool()
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise ModelError(f"attention_mask leaves no token in {_rows(empty)}; leave such rows out.")
        if bool(mask[:, 0].all()) and not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            if self.architecture.causal:
                # Real tokens never see the padding to their right, so the mask changes nothing for them, and without
                # one attention takes its fast causal path. The padding becomes a copy of the row's first token, since
                # an id that is only good for padding may be none that the model can embed.
                return {"input_ids": torch.where(mask, input_ids, input_ids[:, :1]).to(self.device)}
            return {"input_ids": input_ids.to(self.device), "attention_mask": mask.long().to(self.device)}
        # Positions count real tokens, so that a text has the same ones wherever its padding stands.
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        return {
            "input_ids": torch.where(mask, input_ids, input_ids[mask][0]).to(self.device),
            "attention_mask": mask.long().to(self.device),
            "position_ids": positions.to(self.device),
        }

    # ---- identity

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 over the config, every weight and the tokenizer; computed on first use."""
        digest = hashlib.sha256()
        config = _clean(self.config.to_dict())
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            for start in range(0, flat.numel(), _CHUNK):
                digest.update(flat[start : start + _CHUNK].cpu().numpy().data)
        digest.update(_tokenizer_text(self.tokenizer).encode())
        return digest.hexdigest()[:16]

    def randomised(self, seed: int) -> Model:
        """The same architecture and tokenizer with fresh random weights: what a probe reads without any training.

        Weights are drawn as transformers initialises this architecture. No global random state is touched.

        Raises
        ------
        ModelError : the model's class cannot be built from its config alone.
        """
        config = copy.deepcopy(self.config)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which seeds the accelerators too.
            torch.default_generator.manual_seed(seed)
            try:
                module = type(self.module)(config)
            except TypeError as error:
                raise ModelError(
                    f"cannot make a {type(self.module).__name__} with random weights from its config ({error})."
                ) from error
        module = module.to(device=self.device, dtype=self.dtype).eval()
        return Model(
            module,
            self.tokenizer,
            name=f"{self.name} (random weights, seed {seed})",
            source=f"{self.source}, weights drawn anew with seed {seed}",
            architecture=self.architecture,
        )


def _rows(rows: Sequence[int]) -> str:
    named = ", ".join(str(i) for i in rows[:10])
    return f"row{'s' if len(rows) > 1 else ''} {named}" + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")


def _clean(value: Any) -> Any:
    """A config without what does not change the model's results, at any depth."""
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items() if k not in _VOLATILE and not str(k).startswith("_")}
    return [_clean(v) for v in value] if isinstance(value, (list, tuple)) else value


def _tokenizer_text(tokenizer: Any) -> str:
    """All that decides how the tokenizer encodes, as canonical JSON; how it last padded or cut is left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        rules = json.loads(backend.to_str())
        rules.pop("padding", None)
        rules.pop("truncation", None)
    else:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    special = {k: str(v) for k, v in tokenizer.special_tokens_map.items()}
    parts = {"rules": rules, "special": special, "chat_template": getattr(tokenizer, "chat_template", None)}
    return json.dumps(parts, sort_keys=True, default=str)
