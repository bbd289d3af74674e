"""`Model`: a loaded, proved model that can be read and edited at its sites."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from leadline.errors import ArchitectureError, DataError, ModelError, SiteError, did_you_mean
from leadline.models.architectures import Architecture, find_architectures
from leadline.models.batches import Batch, batch_of, text_arguments
from leadline.models.check import Proof, prove
from leadline.models.encoded import Encoded
from leadline.models.hooks import Edit, Hooks, Receive, evaluating
from leadline.models.identity import fingerprint_of
from leadline.models.part import Part
from leadline.models.ports import Port
from leadline.models.prefix import Prefix
from leadline.models.texts import Input, encode_texts, name_rows
from leadline.models.vision import encode_arrays, encode_captioned, encode_pictures, encode_sounds
from leadline.sites import Site, expand_sites, split_patterns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Model"]

# A batch of `activations_of`, in tokens.
_SCORING_TOKENS = 4096
# How far a row that goes on from a cached prefix may be from the row in one piece, relative.
_PREFIX_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.1
# Where a text is expected and something else came.
_KINDS = {"text": "texts", "image": "pictures", "audio": "sounds", "image+text": "pictures with a text, or texts"}


class Model:
    """A model whose residual equation has been proved, with what turns inputs into its tokens.

    Making one proves every part of it (`leadline.models.check`), so there is no unproved Model. Use `load_model`. One
    thread at a time may read it.

    Parameters
    ----------
    module : a transformers model, with or without its head; with `modules_only` any module.
    tokenizer : its tokenizer; None for a model that reads no text.
    name : for a person, as in `"smollm2-135m"`.
    source : where it was loaded from.
    architecture : a row for a model that the table does not know; None looks it up.
    processor : what turns pictures or sounds into arrays; for `modules_only` a function from a list of inputs to a
        tensor, or to a mapping of arguments, with the batch first.
    modules_only : prove nothing, and offer only `module:PATH` sites.

    Attributes
    ----------
    trunk : the part of `module` that is run: everything up to the final norm, never a head.
    parts : by name its proved stacks of blocks; most models have one, named `""`. The first is what `architecture`,
        `proof`, `n_layers`, `d_model` and `n_heads` are of. Empty with `modules_only`.
    n_parameters : of the whole module.
    max_tokens : the longest text that the model takes, or None where its config sets no limit.
    pass_mask : (batch, seq) where the rows of the pass under way have real tokens, which the module itself need not be
        told; None outside of this class's own passes, and where all are real.

    Raises
    ------
    ArchitectureError : no row fits, or a row is disproved on the model's weights.
    ModelError : the weights are not loaded, or not finite.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        name: str,
        source: str,
        architecture: Architecture | None = None,
        processor: Any = None,
        modules_only: bool = False,
    ) -> None:
        if any(parameter.is_meta for parameter in module.parameters()):
            raise ModelError(f"the weights of '{name}' are not loaded (they are on the meta device); load them first.")
        self.name = name
        self.source = source
        self.module = module
        self.tokenizer = tokenizer
        self.processor = processor
        self.modules_only = modules_only
        self.trunk: nn.Module = getattr(module, "base_model", module)
        self.config: Any = getattr(self.trunk, "config", None) or getattr(module, "config", None)
        self.parts: dict[str, Part] = {}
        if not modules_only:
            self.parts = self._parts((architecture,) if architecture else find_architectures(self.config))
        self.n_parameters = sum(parameter.numel() for parameter in module.parameters())
        self._hooks = Hooks(self._port)
        self.pass_mask: torch.Tensor | None = None

    def _parts(self, rows: Sequence[Architecture]) -> dict[str, Part]:
        found = {}
        for row in rows:
            try:
                part = Part(self.trunk, row, self.config)
            except ArchitectureError:
                # An encoder may have been saved without its decoder, or a tower without the other.
                if row is not rows[0]:
                    continue
                raise
            part.proof = prove(part, self.config)
            found[row.part] = part
        return found

    def __repr__(self) -> str:
        if self.modules_only:
            what = f"{type(self.module).__name__}, named modules only"
        else:
            what = f"{self.architecture.name}, {self.n_layers} layers, d_model {self.d_model}"
        return (
            f"Model('{self.name}', {what}, {self.n_parameters / 1e6:,.1f} M parameters, "
            f"{str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    # ---- what it is

    @property
    def part(self) -> Part:
        """The part that the model is mostly used for.

        Raises
        ------
        ModelError : the model was loaded for named modules only.
        """
        if not self.parts:
            raise ModelError(
                f"'{self.name}' was loaded for named modules only, so no layers or residual stream of it are known; "
                f"name modules, as in 'module:layer4.1'."
            )
        return next(iter(self.parts.values()))

    @property
    def architecture(self) -> Architecture:
        """The row of the table of the first part."""
        return self.part.row

    @property
    def proof(self) -> Proof:
        """What was found at load of the first part."""
        assert self.part.proof is not None
        return self.part.proof

    @property
    def n_layers(self) -> int:
        """Blocks of the first part."""
        return self.part.n_layers

    @property
    def d_model(self) -> int:
        """The width of the first part's stream."""
        return self.part.d_model

    @property
    def n_heads(self) -> int:
        """Attention heads a block of the first part."""
        return self.part.n_heads

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the model takes, or None where its config sets no limit."""
        text = next((part for part in self.parts.values() if "text" in part.row.inputs), None)
        limit = getattr(text.config, "max_position_embeddings", None) if text else None
        if limit is None:
            return None
        # RoBERTa counts its positions from behind the padding id.
        return int(limit) - (self.config.pad_token_id + 1 if self.config.model_type in _OFFSET_POSITIONS else 0)

    @property
    def _weights(self) -> torch.Tensor:
        if self.parts:
            return self.part.weights
        return next((p for p in self.module.parameters() if p.is_floating_point()), torch.zeros(()))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the blocks' weights."""
        return self._weights.dtype

    @property
    def device(self) -> torch.device:
        """Where the model's input goes."""
        return self._weights.device

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of site that the first part offers."""
        return self.part.kinds

    @property
    def default_sites(self) -> str:
        """The stream after every block, before the first, and after the final norm where there is one."""
        part = self.part
        prefix = f"{part.name}:" if part.name else ""
        kinds = ["embed", "resid_post.*", *(["final_norm"] if "final_norm" in part.kinds else [])]
        return " ".join(prefix + kind for kind in kinds)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 over the config, every weight, the tokenizer and the processor.

        Computed on first use.
        """
        return fingerprint_of(self.module, self.config, self.tokenizer, self.processor)

    # ---- sites

    def sites(self, patterns: str | Site | Iterable[str | Site]) -> tuple[Site, ...]:
        """Expand site patterns into this model's sites, in the order of computation.

        Raises
        ------
        SiteError : a pattern outside the grammar, or a site that this model does not have.
        """
        found: set[Site] = set()
        for pattern in split_patterns(patterns):
            name, colon, _ = pattern.partition(":")
            if colon and name == "module":
                site = Site.parse(pattern)
                self._module(site)
                found.add(site)
                continue
            part = self._part_named(name if colon else "", pattern)
            found.update(
                expand_sites(pattern, n_layers=part.n_layers, n_heads=part.n_heads, offered=part.kinds, has=part.has)
            )
        return tuple(sorted(found, key=lambda site: site.depth))

    def _part_named(self, name: str, pattern: str) -> Part:
        if name in self.parts:
            return self.parts[name]
        if not self.parts:
            raise SiteError(
                f"'{pattern}': '{self.name}' was loaded for named modules only; name them, as in 'module:layer4.1'."
            )
        if not name:
            raise SiteError(
                f"'{pattern}': '{self.name}' has the parts {', '.join(self.parts)}; say which, as in "
                f"'{next(iter(self.parts))}:{pattern}'."
            )
        named = [f"{part}:" for part in self.parts if part]
        raise SiteError(
            f"'{pattern}': '{self.name}' has no part '{name}'; "
            + (f"its parts are {', '.join(named)}" if named else "it has one part, whose sites are named without")
            + "."
        )

    def _module(self, site: Site) -> nn.Module:
        try:
            return self.module.get_submodule(site.path)
        except AttributeError:
            names = [name for name, _ in self.module.named_modules() if name]
            shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            raise SiteError(
                f"'{site.name}': {type(self.module).__name__} has no module '{site.path}'; it has {shown}."
                + did_you_mean(site.path, names)
            ) from None

    def _port(self, site: Site) -> Port:
        if site.kind == "module":
            return Port(self._module(site), free=True)
        return self.parts[site.part].port(site)

    def part_of(self, sites: Iterable[Site]) -> Part | None:
        """The one part that all of some sites are read in; None with `modules_only`.

        Raises
        ------
        SiteError : they belong to several parts, which take different inputs or have different positions.
        """
        if not self.parts:
            return None
        names = sorted({site.part for site in sites if site.kind != "module"})
        if len(names) > 1:
            raise SiteError(
                f"the sites belong to several parts ({', '.join(name or 'the language model' for name in names)}) "
                f"whose positions differ; extract each into a store of its own."
            )
        return self.parts[names[0]] if names else self.part

    def width(self, site: str | Site) -> int:
        """The number of dimensions at a site.

        Raises
        ------
        SiteError : no site of this model, or a named module, whose width only a pass shows (`widths`).
        """
        one = self._one(site)
        if one.kind == "module":
            raise SiteError(f"the width at '{one.name}' is known from a pass alone; use widths(sites, row).")
        return self.parts[one.part].width(one)

    def widths(self, sites: Sequence[Site], row: Encoded | None = None) -> dict[Site, int]:
        """The width at each site; a pass over `row` tells those of named modules."""
        found = {site: self.parts[site.part].width(site) for site in sites if site.kind != "module"}
        rest = [site for site in sites if site.kind == "module"]
        if rest:
            if row is None:
                raise SiteError(f"the width at '{rest[0].name}' is known from a pass alone; give a row.")
            seen = self.read_rows([row], rest)
            found.update({site: int(tensor.shape[-1]) for site, tensor in seen.items()})
        return {site: found[site] for site in sites}

    def _one(self, site: str | Site) -> Site:
        found = self.sites([site])
        if len(found) != 1:
            raise SiteError(f"'{site}' names {len(found)} sites; expected one, as in '{found[0].name}'.")
        return found[0]

    # ---- inputs to tokens

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
        return [list(row.ids) for row in self._encode_texts(inputs, offsets=False)]

    def encode_rows(
        self,
        inputs: Sequence[Any],
        *,
        part: Part | None = None,
        offsets: bool = False,
        generation_prompt: bool = False,
    ) -> list[Encoded]:
        """Turn inputs of any kind into rows for one part of the model.

        Parameters
        ----------
        inputs : texts, chats, pictures, sounds, pictures with a text, or arrays (`leadline.data`).
        part : the part that will be read; by default the first.
        offsets : note for each token where it stands in the text.
        generation_prompt : end a chat with what opens the model's answer, as its template writes it.

        Raises
        ------
        DataError : inputs of a kind that the part does not take, or one that cannot be read; names the row.
        """
        if self.modules_only and self.tokenizer is None:
            return encode_arrays(inputs, self.processor, self.name)
        wanted = "text" if self.modules_only else (part or self.part).row.inputs
        given = {_modality(row) for row in inputs}
        fits = {"text": {"text"}, "image": {"image"}, "audio": {"audio"}, "image+text": {"captioned", "text"}}[wanted]
        if not given <= fits or len(given) > 1:
            strange = ", ".join(sorted(given - fits) or sorted(given))
            whom = f"this part of '{self.name}'" if len(self.parts) > 1 else f"'{self.name}'"
            raise DataError(f"the rows are of the kind {strange}, but {whom} takes {_KINDS[wanted]}.")
        if wanted == "text" or given == {"text"}:
            rows = self._encode_texts(inputs, offsets=offsets, generation_prompt=generation_prompt)
            return [_shifted(row) for row in rows] if part is not None and part.row.part == "decoder" else rows
        assert part is not None or self.parts
        if self.processor is None:
            raise DataError(f"'{self.name}' was loaded without a processor for {_KINDS[wanted]}; give processor=.")
        one = part or self.part
        if wanted == "image":
            return encode_pictures(self.processor, inputs, one)
        if wanted == "audio":
            return encode_sounds(self.processor, inputs, one)
        rows = encode_captioned(
            _image_processor(self.processor), self._tokenizer(), inputs, self.config, self.name, offsets=offsets
        )
        self._check([list(row.ids) for row in rows])
        return rows

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise DataError(f"'{self.name}' was loaded without a tokenizer, so it takes no texts; give tokenizer=.")
        return self.tokenizer

    def _encode_texts(
        self, inputs: Sequence[Input], *, offsets: bool, generation_prompt: bool = False
    ) -> list[Encoded]:
        rows = encode_texts(self._tokenizer(), inputs, self.name, offsets=offsets, generation_prompt=generation_prompt)
        self._check([list(row.ids) for row in rows])
        return rows

    def _check(self, ids: list[list[int]]) -> None:
        empty = [i for i, row in enumerate(ids) if not row]
        if empty:
            raise DataError(f"no tokens in {name_rows(empty)}; every row needs some text. Remove them or fill them in.")
        if self.max_tokens is not None:
            long = [i for i, row in enumerate(ids) if len(row) > self.max_tokens]
            if long:
                raise DataError(
                    f"longer than the {self.max_tokens:,} tokens that '{self.name}' takes: {name_rows(long)} (the "
                    f"longest has {max(len(ids[i]) for i in long):,}). Shorten or remove them; nothing is cut off "
                    f"silently."
                )
        n_known = self._n_embeddings
        foreign = [i for i, row in enumerate(ids) if n_known is not None and max(row) >= n_known]
        if foreign:
            raise ModelError(
                f"the tokenizer gives ids up to {max(max(ids[i]) for i in foreign)} in {name_rows(foreign)}, but "
                f"'{self.name}' has {n_known} embeddings; give the model's own tokenizer."
            )

    @property
    def _n_embeddings(self) -> int | None:
        text = next((part for part in self.parts.values() if "text" in part.row.inputs), None)
        if text is None:
            return None
        return int(text.root.get_input_embeddings().weight.shape[0])  # type: ignore[operator]

    # ---- reading and editing

    @contextmanager
    def reading(self, sites: Iterable[Site], receive: Receive) -> Iterator[None]:
        """Hand the tensor of each site to `receive` as soon as it appears, in every pass made inside the body.

        So a tensor can be pooled at once and be freed. The hooks are gone when the body ends, however it ends.
        Readings and edits may be nested, and one may be opened inside another's `receive`.

        Parameters
        ----------
        sites : sites of this model, as `Model.sites` gives them.
        receive : called with the site and its tensor (batch, seq, width), which is the model's own: it must not be
            written to, and to keep it, clone it. An exception raised here leaves the pass.

        Raises
        ------
        SiteError : a site that this model does not have.
        """
        wanted = self.sites(list(sites))
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.module))
            if any(site.kind == "attn_pattern" for site in wanted):
                stack.enter_context(self._eager())
            stack.enter_context(self._hooks.reading(wanted, receive))
            yield

    @contextmanager
    def editing(self, sites: str | Site | Iterable[str | Site], edit: Edit) -> Iterator[None]:
        """Put what `edit` makes of each site's tensor in its place, in every pass made inside the body.

        In `forward`, in the module's own call, and in generation. Readings opened inside the body see the edited
        tensor, those opened around it the one before. The hooks are gone when the body ends, however it ends.

        Parameters
        ----------
        sites : sites of this model or patterns; an attention pattern cannot be edited.
        edit : called with the site and its tensor (batch, seq, width) as it is; returns one of the same shape. With a
            key-value cache, seq counts the new tokens alone.

        Raises
        ------
        SiteError : a site that this model does not have or that cannot be edited, or an edit of another shape.

        Examples
        --------
        >>> with model.editing("resid_post.8", lambda site, x: x + 4 * direction):  # doctest: +SKIP
        ...     model.module.generate(**inputs)
        """
        wanted = self.sites(sites)
        fixed = [site.name for site in wanted if site.kind == "attn_pattern"]
        if fixed:
            raise SiteError(f"{fixed[0]} can be read but not edited; edit head_out or attn_out instead.")
        with evaluating(self.module), self._hooks.editing(wanted, edit):
            yield

    @contextmanager
    def _eager(self) -> Iterator[None]:
        """Let attention give its weights, which the fast implementations never hold as a whole."""
        before = getattr(self.module.config, "_attn_implementation", None)
        if before in (None, "eager"):
            yield
            return
        self.module.set_attn_implementation("eager")  # type: ignore[operator]
        try:
            yield
        finally:
            self.module.set_attn_implementation(before)  # type: ignore[operator]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        after: Prefix | None = None,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Make one pass through the trunk, serving the open readings; nothing after their last site is computed.

        Parameters
        ----------
        input_ids : (batch, seq) token ids, padded with any token on either side; on the right alone with `after`.
        attention_mask : (batch, seq), 1 at real tokens; None where all are real.
        after : prefixes that the rows go on from.
        rows : (batch,) which of the prefixes each row has; None where there is one, or as many as rows.

        Returns
        -------
        The final hidden state (batch, seq, d_model), or None if the pass ended early.

        Raises
        ------
        ModelError : the shapes do not fit, or a row has no real token.
        """
        arguments: dict[str, Any] = text_arguments(input_ids, attention_mask, self.part)
        arguments = {key: value.to(self.device) for key, value in arguments.items()}
        if after is not None:
            if "attention_mask" in arguments:
                raise ModelError("rows that go on from a prefix are padded on the right alone; move the padding.")
            arguments |= {"past_key_values": after.take(_parents(after, rows, len(input_ids))), "use_cache": True}
        with self._masked(attention_mask):
            return self._run(self.part, arguments)

    @contextmanager
    def _masked(self, mask: torch.Tensor | None) -> Iterator[None]:
        before, self.pass_mask = self.pass_mask, mask
        try:
            yield
        finally:
            self.pass_mask = before

    def prefix(
        self, input_ids: torch.Tensor, *, after: Prefix | None = None, rows: torch.Tensor | None = None
    ) -> Prefix:
        """Compute prefixes of equal length once, for many rows to go on from; serves the open readings.

        Parameters
        ----------
        input_ids : (n, length) token ids, without padding.
        after, rows : as in `forward`: prefixes may go on from prefixes.

        Raises
        ------
        ModelError : the model keeps no key-value cache.
        """
        if not self.can_share_prefixes:
            raise ModelError(f"'{self.name}' keeps no key-value cache from which rows could go on.")
        return self._prefix(input_ids, after, rows)[1]

    def prefix_and_hidden(
        self, input_ids: torch.Tensor, *, after: Prefix | None = None, rows: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, Prefix]:
        """As `prefix`, with the final hidden state (n, length, d_model); None if an open reading ended the pass.

        The ids may be padded on the right, for prefixes that are cut (`Prefix.cut`) before the padding.
        """
        if not self.can_share_prefixes:
            raise ModelError(f"'{self.name}' keeps no key-value cache from which rows could go on.")
        return self._prefix(input_ids, after, rows)

    def _prefix(
        self, input_ids: torch.Tensor, after: Prefix | None, rows: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, Prefix]:
        from transformers import DynamicCache

        start = 0 if after is None else after.length
        if after is None:
            cache = DynamicCache(config=self.part.config)
        else:
            cache = after.take(_parents(after, rows, len(input_ids)))
        arguments = {"input_ids": input_ids.to(self.device), "past_key_values": cache, "use_cache": True}
        hidden = self._run(self.part, arguments)
        return hidden, Prefix(cache, start + input_ids.shape[1], len(input_ids))

    @property
    def may_share_prefixes(self) -> bool:
        """Whether the row of the table says that rows can go on from a prefix's key-value cache."""
        row = self.part.row if self.parts else None
        return bool(row and row.causal and row.caches and not row.part and row.inputs in ("text", "image+text"))

    @cached_property
    def can_share_prefixes(self) -> bool:
        """Whether rows can go on from a prefix's key-value cache; tried out on random tokens when first asked."""
        if not self.may_share_prefixes:
            return False
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(min(self._n_embeddings or 1, 1000), (2, 12), generator=generator)
        ids[1, :5] = ids[0, :5]
        last = self.sites([f"resid_post.{self.n_layers - 1}"])
        with self._hooks.apart():
            whole = self.read(ids, None, last)[last[0]][:, 5:].double()
            _, prefix = self._prefix(ids[:1, :5], None, None)
            gone_on = self._read(last, lambda: self.forward(ids[:, 5:], after=prefix))[last[0]].double()
        error = float(((whole - gone_on).norm(dim=-1) / whole.norm(dim=-1).clamp(min=1e-30)).max())
        return error <= (_PREFIX_TOLERANCE if self.dtype == torch.float32 else _HALF_TOLERANCE)

    @property
    def cache_bytes_per_token(self) -> int:
        """What the keys and values of one token take, in all layers; an upper bound where heads share them."""
        config = self.part.config
        n_heads = int(getattr(config, "num_key_value_heads", None) or self.n_heads or 1)
        size = int(getattr(config, "head_dim", None) or self.d_model // max(1, self.n_heads))
        return 2 * self.n_layers * n_heads * size * self._weights.element_size()

    @contextmanager
    def upcast(self) -> Iterator[None]:
        """Compute in float32 with the same weights, for as long as the body lasts."""
        before = [(t, t.data) for t in (*self.module.parameters(), *self.module.buffers()) if t.is_floating_point()]
        try:
            for tensor, data in before:
                tensor.data = data.float()
            yield
        finally:
            for tensor, data in before:
                tensor.data = data

    def run(self, batch: Batch, part: Part | None = None, *, grad: bool = False) -> torch.Tensor | None:
        """Make one pass of a batch of rows through one part (the first by default), as `forward` does of token ids.

        With `grad` it is recorded how tensors follow from each other (`leadline.models.gradients`).
        """
        with self._masked(batch.mask):
            return self._run(part or (self.part if self.parts else None), dict(batch.arguments), grad)

    def _run(self, part: Part | None, arguments: dict[str, Any], grad: bool = False) -> torch.Tensor | None:
        mask = arguments.get("attention_mask")
        if mask is not None and not bool(mask[:, 0].all()) and self._hooks.wants("attn_pattern"):
            raise ModelError("attention patterns count positions from the first: pad the rows on the right.")
        with torch.inference_mode(not grad), torch.set_grad_enabled(grad), evaluating(self.module):
            if part is None:
                positional = [arguments.pop("")] if "" in arguments else []
                return self._tensor(self._hooks.run(lambda: self.module(*positional, **arguments)))
            if part.row.causal or part.row.part == "decoder":
                arguments.setdefault("use_cache", False)
            output = self._hooks.run(lambda: part.root(**arguments, output_hidden_states=False, return_dict=True))
        return self._tensor(output)

    @staticmethod
    def _tensor(output: Any) -> torch.Tensor | None:
        tensor = getattr(output, "last_hidden_state", output)
        return tensor if isinstance(tensor, torch.Tensor) else None

    def batch(self, rows: Sequence[Encoded], part: Part | None = None) -> Batch:
        """Put encoded rows together, padded on the right, for `run`."""
        return batch_of(rows, part or (self.part if self.parts else None), self._weights)

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
        part = self.part_of(wanted) or self.part
        arguments = {k: v.to(self.device) for k, v in text_arguments(input_ids, attention_mask, part).items()}
        with self._masked(attention_mask):
            return self._read(wanted, lambda: self._run(part, arguments))

    def read_rows(self, rows: Sequence[Encoded], sites: Iterable[Site]) -> dict[Site, torch.Tensor]:
        """As `read`, for rows of any kind as `encode_rows` gives them, padded on the right."""
        wanted = self.sites(list(sites))
        part = self.part_of(wanted)
        return self._read(wanted, lambda: self.run(self.batch(rows, part), part))

    def _read(self, wanted: tuple[Site, ...], run: Callable[[], Any]) -> dict[Site, torch.Tensor]:
        found: dict[Site, torch.Tensor] = {}

        def keep(site: Site, tensor: torch.Tensor) -> None:
            found[site] = tensor.clone()

        with self.reading(wanted, keep):
            run()
        return {site: found[site] for site in wanted}

    def activations_of(self, inputs: Sequence[Any], site: str | Site, tokens: str = "last") -> np.ndarray:
        """Pooled activations of a few inputs at one site, in memory; `leadline.extract` is for whole data sets.

        Parameters
        ----------
        inputs : n texts, chats, pictures or whatever the model takes.
        tokens : a token selection, as in `extract`; spans need a data set and so `extract`.

        Returns
        -------
        (n, width) float32, in the order of `inputs`; for a selection that keeps every token, (tokens in all, width).

        Raises
        ------
        SiteError, DataError, ActivationsError : an unknown site, an empty or too long input, an unknown selection.
        """
        # The rule of pooling belongs to the activations; it needs no model, so nothing leads back here.
        from leadline.activations.tokens import Selection, pool_positions

        wanted, selection = self._one(site), Selection.parse(tokens)
        part = self.part_of([wanted])
        rows = self.encode_rows(inputs, part=part, offsets=selection.needs_offsets)
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        # Rows of one length go together, so that nothing is padded and a text's score has no neighbours in it.
        for length in sorted({row.length for row in rows}):
            alike = [i for i, row in enumerate(rows) if row.length == length]
            size = max(1, _SCORING_TOKENS // length)
            for start in range(0, len(alike), size):
                some = alike[start : start + size]
                tensor = self.read_rows([rows[i] for i in some], [wanted])[wanted]
                if part is None:
                    positions = [np.arange(tensor.shape[1])] * len(some)
                else:
                    positions = [selection.positions(rows[i]) for i in some]
                pool = pool_positions(selection.pool, np.arange(len(some)), positions, self.device)
                pooled = pool(tensor).float().cpu().numpy()
                # Where every token is kept a row has several vectors.
                ends = np.cumsum([len(own) if selection.ragged else 1 for own in positions])
                for i, block in zip(some, np.split(pooled, ends[:-1]), strict=True):
                    found[i] = block
        return np.concatenate(found)

    # ---- another of its kind

    def randomised(self, seed: int) -> Model:
        """The same architecture and tokenizer with fresh random weights: what a probe reads without any training.

        Weights are drawn as transformers initialises this architecture. No global random state is touched.

        Raises
        ------
        ModelError : the model's class cannot be built from its config alone.
        """
        config = copy.deepcopy(getattr(self.module, "config", None))
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which seeds the accelerators too.
            torch.default_generator.manual_seed(seed)
            try:
                module = type(self.module)(config)
            except (TypeError, AttributeError) as error:
                raise ModelError(
                    f"cannot make a {type(self.module).__name__} with random weights from its config ({error})."
                ) from error
        module = module.to(device=self.device, dtype=self.dtype).eval()
        return Model(
            module,
            self.tokenizer,
            name=f"{self.name} (random weights, seed {seed})",
            source=f"{self.source}, weights drawn anew with seed {seed}",
            architecture=self.architecture if len(self.parts) == 1 else None,
            processor=self.processor,
            modules_only=self.modules_only,
        )


# Families whose positions start behind the padding id.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert"})


def _modality(row: Any) -> str:
    """What a row is, told by what it can do, since models know no data sets."""
    if isinstance(row, str) or (isinstance(row, Sequence) and not hasattr(row, "load")):
        return "text"
    if hasattr(row, "picture") and hasattr(row, "text"):
        return "captioned"
    return str(getattr(row, "modality", type(row).__name__))


def _image_processor(processor: Any) -> Any:
    """The part of a vision-language model's processor that is for pictures."""
    return getattr(processor, "image_processor", processor)


def _shifted(row: Encoded) -> Encoded:
    """A row for a decoder beside an encoder, which reads each token one place later, behind its start token."""
    offsets = row.offsets
    if offsets is not None:
        offsets = np.concatenate([np.zeros((1, 2), dtype=np.int64), offsets[:-1]])
    return Encoded(row.ids, row.length, row.arrays, row.text, offsets, row.messages, row.parts)


def _parents(after: Prefix, rows: torch.Tensor | None, n: int) -> torch.Tensor:
    if rows is None:
        rows = torch.zeros(n, dtype=torch.long) if after.n == 1 else torch.arange(n)
    if rows.shape != (n,) or int(rows.max()) >= after.n:
        raise ModelError(f"{n} rows cannot go on from {after.n} prefixes as {tuple(rows.shape)} says; give one a row.")
    return rows
