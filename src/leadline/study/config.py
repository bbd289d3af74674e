"""The study file: what to run, as a person writes it in YAML and as a run folder keeps it.

A wrong key or value is refused before any work, with the file, the line and the nearest key. Every relative path in a
study file is relative to that file; `StudyConfig.to_yaml` writes absolute paths and every default, so that the copy
in a run folder runs again from anywhere.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from leadline.errors import ActivationsError, ConfigError, SiteError, did_you_mean
from leadline.sites import expand_sites
from leadline.study.causal_config import CausalConfig

__all__ = [
    "CONTROLS",
    "DEFAULT_CONTROLS",
    "DEFAULT_MEASURES",
    "DEFAULT_SITES",
    "MEASURES",
    "CausalConfig",
    "DataConfig",
    "ModelConfig",
    "ProbeConfig",
    "StudyConfig",
    "load_config",
    "named_data",
]

Control = Literal[
    "shuffled_labels",
    "bag_of_words",
    "char_ngrams",
    "length",
    "first_token",
    "last_token",
    "position",
    "perplexity",
    "embed_site",
    "token_embeddings",
    "random_weights",
]
Measure = Literal[
    "duplicates",
    "leaking_columns",
    "emergence",
    "control_task",
    "code_length",
    "nonlinearity",
    "calibration",
    "operating_points",
    "giveaway",
    "robustness",
    "label_issues",
    "text_features",
    "simplified",
    "nested",
]
Family = Literal[
    "logistic",
    "linear_svm",
    "ridge",
    "mean_difference",
    "lda",
    "nearest_centroid",
    "elastic_net",
    "sparse_logistic",
    "k_sparse",
]
# What each family takes beside its name: the fields of its class in `leadline.probes`, which this module does not
# import, since a study is read without torch.
FAMILY_OPTIONS: dict[str, tuple[str, ...]] = {
    "logistic": ("l2", "class_weight"),
    "linear_svm": ("l2", "class_weight"),
    "ridge": ("l2",),
    "mean_difference": ("covariance",),
    "lda": ("shrinkage", "priors"),
    "nearest_centroid": ("scale",),
    "elastic_net": ("l1", "l2"),
    "sparse_logistic": ("l1", "l2", "class_weight"),
    "k_sparse": ("k", "select", "l2", "kind"),
}
# Families that try several of something else, and take one l2.
_ONE_L2 = ("elastic_net", "sparse_logistic", "k_sparse")
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

CONTROLS: tuple[Control, ...] = get_args(Control)
DEFAULT_CONTROLS: tuple[Control, ...] = CONTROLS
MEASURES: tuple[Measure, ...] = get_args(Measure)
# Full nesting fits every site again for every fold; BBC-CV answers the same question without.
DEFAULT_MEASURES: tuple[Measure, ...] = tuple(one for one in MEASURES if one != "nested")
# The stream before the first block, after every block and after the final norm, as far as the model has them.
DEFAULT_SITES = ("default",)

# A site pattern is checked before the model is known; no model has this many layers, or heads in a layer.
_MANY = 1000
_DATA_FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".conllu")
_HUB = "hub:"
_OWN_COLUMNS = (
    "pairs",
    "text",
    "image",
    "audio",
    "target",
    "group",
    "split",
    "pair",
    "type",
    "kind",
    "positive",
    "order",
    "config",
    "revision",
)
# What a column for either sentence of a pair says already.
_NOT_WITH_PAIRS = ("text", "image", "audio", "pair", "kind", "positive", "order")


def _folder(info: ValidationInfo) -> Path:
    """The folder that relative paths start from."""
    return Path(info.context["folder"]) if info.context else Path.cwd()


def _listed(value: object) -> object:
    """One text for a list of one; lists become tuples, so that a config is frozen all through."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _scalar_text(value: object) -> object:
    """YAML reads `positive: 1` as a number and `true` as a truth value; a class name is text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _levels(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"got {_shown(value)}; expected a list of all levels, as in [low, middle, high]")
    whole = (int(one) if isinstance(one, float) and one.is_integer() else one for one in value)
    levels = tuple(_scalar_text(one) for one in whole)
    if len(set(levels)) < len(levels):
        raise ValueError("the same level twice; name each once, from the lowest")
    return levels


def _penalties(value: object) -> object:
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else [value]
    penalties: list[float] = []
    if not values:
        raise ValueError("an empty list; give at least one number, or null for the family's own grid")
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise ValueError(f"{_shown(one)} is no number; give a number above 0, a list of them, or null")
        if not (one > 0 and math.isfinite(one)):
            raise ValueError(f"{one} is not above 0; l2 is the penalty in mean loss + (l2/2)·‖w‖²")
        penalties.append(float(one))
    if len(set(penalties)) < len(penalties):
        raise ValueError("the same number twice; give each penalty once")
    return tuple(penalties)


def _counts(value: object) -> object:
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(isinstance(x, bool) or not isinstance(x, int) or x < 1 for x in values):
        raise ValueError(f"{_shown(value)} is no count; give a whole number from 1 on, or a list of them")
    if len(set(values)) < len(values):
        raise ValueError("the same number twice; give each once")
    return tuple(values)


def _shares(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no shrinkage; give ledoit_wolf, oas, or numbers from 0 to 1")
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(isinstance(x, bool) or not isinstance(x, int | float) or not 0 <= x <= 1 for x in values):
        raise ValueError(f"{_shown(value)} is no share; give numbers from 0 to 1, as in [0.01, 0.1]")
    return tuple(values)


def named_data(value: str) -> dict[str, str]:
    """The keys that one text stands for: a file if it looks like one, else a built-in set, or one as in `hub:NAME`."""
    if value.startswith(_HUB):
        return {"name": value}
    is_file = Path(value).suffix.lower() in _DATA_FILES or "/" in value or "\\" in value
    return {"path": value} if is_file else {"name": value}


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelConfig(_Model):
    """`model:`, a name for short.

    `name` is a bundled model, a Hugging Face id, a folder or a `.gguf` file.
    """

    name: str = Field(min_length=1)
    dtype: Dtype = "auto"
    device: str = Field(default="auto", min_length=1)
    revision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _found(cls, name: str, info: ValidationInfo) -> str:
        path = Path(name).expanduser()
        written_as_path = name.startswith(("./", "../", "~", "/")) or name.endswith(".gguf")
        path = path if path.is_absolute() else _folder(info) / path
        # A Hugging Face id is written just like a relative path; it is one when there is a model at its end.
        if written_as_path:
            if not path.exists():
                raise ValueError(f"there is no model at '{path}'; give a folder, a .gguf file or a model's name")
            return str(path.resolve())
        return str(path.resolve()) if (path / "config.json").is_file() else name

    @field_validator("device")
    @classmethod
    def _device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", device):
            raise ValueError(f"unknown device '{device}'; expected auto, cpu, cuda, cuda:0 or mps")
        return device


class PairColumns(_Model):
    """`pairs:` of `data:`, for a file with both sentences of a minimal pair in a row."""

    positive: str = Field(min_length=1)
    negative: str = Field(min_length=1)


class DataConfig(_Model):
    """`data:` and each of `test:`: a labelled file with the names of its columns, or a built-in set by its name.

    A text for short: a built-in name, or the path of a file. `group: null` means that rows are independent, but for
    those of one `pair`. A `name` as in `hub:nyu-mll/glue` is of the Hugging Face hub; `config` (its subset) and
    `revision` are of such a set alone, and its `split` is one there. `order` lists the levels of an ordinal target from
    the lowest. `pairs` names the columns of both sentences where a row is a minimal pair; the `target` is then what to
    call their difference.
    """

    name: str | None = None
    path: str | None = None
    text: str | None = None
    image: str | None = None
    audio: str | None = None
    target: Texts | None = None
    group: str | None = None
    split: str | None = None
    pair: str | None = None
    type: str | None = None
    pairs: PairColumns | None = None
    kind: Literal["binary", "continuous", "multiclass", "ordinal"] | None = None
    positive: Annotated[str | None, BeforeValidator(_scalar_text)] = None
    order: Annotated[tuple[str, ...] | None, BeforeValidator(_levels)] = None
    config: str | None = None
    revision: str | None = None
    sample: int | None = Field(default=None, ge=1)
    sample_test: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return named_data(value) if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _found(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is None:
            return None
        given = Path(path).expanduser()
        file = given if given.is_absolute() else _folder(info) / given
        if not file.is_file():
            beside = file.parent.iterdir() if file.parent.is_dir() else ()
            near = [one.name for one in beside if one.suffix.lower() in _DATA_FILES]
            raise ValueError(f"there is no file '{path}' (looked for '{file}')." + did_you_mean(file.name, near))
        if file.suffix.lower() not in _DATA_FILES:
            raise ValueError(f"'{path}' is of no known kind; expected a name that ends in {', '.join(_DATA_FILES)}")
        return str(file.resolve())

    @model_validator(mode="after")
    def _whole(self) -> DataConfig:
        if self.path is None and self.name is None:
            raise ValueError("neither a path nor a name; give 'path: FILE' with 'target: COLUMN', or a built-in name")
        if self.is_builtin:
            from leadline.data import builtin_datasets

            known = [one.name for one in builtin_datasets()]
            if self.name not in known:
                raise ValueError(
                    f"there is no built-in set '{self.name}'; known: {', '.join(known)}. A file is given by its path, "
                    f"as in 'cities.csv', and a set of the hub as in '{_HUB}nyu-mll/glue'."
                    + did_you_mean(str(self.name), known)
                )
        given = [key for key in _OWN_COLUMNS if getattr(self, key) is not None]
        if self.is_builtin and given:
            raise ValueError(
                f"'{self.name}' is a built-in set with columns of its own, so '{given[0]}' means nothing; "
                f"leave it out, or give a 'path'"
            )
        if self.target is not None and not self.target:
            raise ValueError("'target' names no column; name at least one")
        for key in ("config", "revision"):
            if key in given and not self.is_hub:
                raise ValueError(f"'{key}' is of a set of the hub, and '{self.label}' is a file; leave it out")
        if self.order is not None and self.kind not in (None, "ordinal"):
            raise ValueError(f"'order' is of the levels of 'kind: ordinal', and kind is {self.kind}; leave one out")
        if self.positive is not None and (self.kind in ("multiclass", "ordinal") or self.order is not None):
            raise ValueError("'positive' sets one class against the rest, so there are two; leave it out, or the kind")
        self._whole_pairs()
        conllu = self.path is not None and self.path.endswith(".conllu")
        if not (self.is_builtin or self.text or self.image or self.audio or self.pairs or conllu):
            object.__setattr__(self, "text", "text")
        if conllu and self.target is None:
            object.__setattr__(self, "target", ("upos",))
        return self

    def _whole_pairs(self) -> None:
        if self.pairs is None:
            return
        for key in _NOT_WITH_PAIRS:
            if getattr(self, key) is not None:
                raise ValueError(f"'{key}' means nothing beside 'pairs', whose two columns say it; leave it out")
        if self.target is None:
            object.__setattr__(self, "target", ("label",))
        elif len(self.target) > 1:
            raise ValueError("'target' is what to call the difference of the pairs; give one name")

    @property
    def is_builtin(self) -> bool:
        """Whether it names a built-in set, and no file or set of the hub."""
        return self.path is None and not self.is_hub

    @property
    def is_hub(self) -> bool:
        """Whether it names a set of the Hugging Face hub."""
        return self.path is None and str(self.name).startswith(_HUB)

    @property
    def label(self) -> str:
        """What to call it: its name, else the file's, without its ending."""
        if self.is_hub:
            return str(self.name).rstrip("/").rsplit("/", 1)[-1].removeprefix(_HUB)
        return self.name if self.name is not None else Path(str(self.path)).stem

    def arguments(self) -> tuple[str, dict[str, Any]]:
        """The arguments of `load_dataset`: a name or a path, and the keywords that were given."""
        keywords = self.model_dump(exclude={"path"}, exclude_none=True)
        if self.is_builtin:
            return str(keywords.pop("name")), keywords
        if self.order is not None:
            keywords["order"] = list(self.order)
        if len(keywords["target"]) == 1:
            keywords["target"] = keywords["target"][0]
        else:
            keywords["target"] = list(keywords["target"])
        return str(keywords.pop("name") if self.is_hub else self.path), keywords


class ProbeConfig(_Model):
    """`probe:`, a family for short; the other keys are the family's own, and null leaves each at its default.

    `l2`, `l1`, `k` and `shrinkage` are a number, or a list to choose from; `FAMILY_OPTIONS` says which family takes
    which.
    """

    family: Family = "logistic"
    l2: Annotated[tuple[float, ...] | None, BeforeValidator(_penalties)] = None
    l1: Annotated[tuple[float, ...] | None, BeforeValidator(_penalties)] = None
    k: Annotated[tuple[int, ...] | None, BeforeValidator(_counts)] = None
    select: Literal["mean_difference", "f_statistic", "l1"] | None = None
    kind: Literal["binary", "continuous"] | None = None
    shrinkage: Literal["ledoit_wolf", "oas"] | Annotated[tuple[float, ...], BeforeValidator(_shares)] | None = None
    priors: Literal["empirical", "uniform"] | None = None
    covariance: Literal["identity", "pooled"] | None = None
    scale: bool | None = None
    class_weight: Literal["balanced"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"family": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _used(self) -> ProbeConfig:
        own = FAMILY_OPTIONS[self.family]
        for key in self.options():
            if key not in own:
                raise ValueError(f"a {self.family} probe has no '{key}'; leave it out. It takes {' and '.join(own)}")
        if self.family in _ONE_L2 and self.l2 is not None and len(self.l2) > 1:
            raise ValueError(f"a {self.family} probe tries several {own[0]} and takes one l2; give one number")
        return self

    def options(self) -> dict[str, object]:
        """What was given for the family's class, as its keywords."""
        given = {key: getattr(self, key) for key in type(self).model_fields if key != "family"}
        if self.family in _ONE_L2 and self.l2 is not None:
            given["l2"] = self.l2[0]
        return {key: value for key, value in given.items() if value is not None}

    @model_serializer
    def _own(self) -> dict[str, object]:
        """The family, and the keys that mean something for it."""
        return {"family": self.family} | {key: getattr(self, key) for key in FAMILY_OPTIONS[self.family]}


class StudyConfig(_Model):
    """A whole study.

    Parameters
    ----------
    name : what the study is called; by default the data's name.
    model, data : what to probe, and for what.
    sites : site patterns, as in `resid_post.*`; `default` for the stream after every block.
    tokens : which tokens' activations are read and how they are pooled, as in `last` or `mean@role:user`.
    probe : the family and its penalties.
    folds, permutations, bootstraps : how many of each; 0 permutations leave the p-values out.
    controls : what the probe is held against. random_weights : how many random models, where they are among them.
    measures : what else is measured at the chosen site.
    balance : train on as many rows of each class as the rarest has; every row is judged.
    test : further labelled sets, on which the chosen probe is only tried. What a test file leaves out of `text`,
        `pairs`, `target`, `kind`, `positive` and `order` is the data's, and so are `group`, `pair` and `type` where the
        file has such a column.
    causal : interventions along the chosen direction, and which components write it; by default none.
    alpha : the level of every verdict. seed : of folds, permutations, bootstraps and random weights.
    out : the run's folder; by default `runs/NAME`.
    """

    name: str = Field(default="", validate_default=False)
    model: ModelConfig
    data: DataConfig
    sites: Texts = DEFAULT_SITES
    tokens: str = "last"
    probe: ProbeConfig = ProbeConfig()
    folds: int = Field(default=5, ge=2)
    permutations: int = Field(default=1000, ge=0)
    bootstraps: int = Field(default=1000, ge=100)
    controls: tuple[Control, ...] = DEFAULT_CONTROLS
    random_weights: int = Field(default=2, ge=1)
    measures: tuple[Measure, ...] = DEFAULT_MEASURES
    balance: bool = False
    test: tuple[DataConfig, ...] = ()
    causal: CausalConfig | None = None
    alpha: float = Field(default=0.05, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    out: str = ""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, Mapping):
            return value
        study = dict(value)
        tests = study.get("test")
        if isinstance(tests, str | Mapping):
            tests = [tests]
        if isinstance(tests, list | tuple):
            study["test"] = tuple(_inherited(one, study.get("data"), _folder(info)) for one in tests)
        return study

    @field_validator("sites", mode="after")
    @classmethod
    def _sites(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        patterns = tuple(piece for one in sites for piece in one.split())
        if patterns == DEFAULT_SITES:
            return patterns
        try:
            expand_sites([one.replace("*", "0") for one in patterns], n_layers=_MANY, n_heads=_MANY)
        except SiteError as error:
            raise ValueError(str(error)) from error
        return patterns

    @field_validator("tokens", mode="after")
    @classmethod
    def _tokens(cls, tokens: str) -> str:
        from leadline.activations.selection_grammar import parse_selection

        try:
            pool, rule = parse_selection(tokens)
        except ActivationsError as error:
            raise ValueError(str(error)) from error
        if pool == "all":
            raise ValueError(
                f"'{tokens}' keeps a vector for every token, and a study reads one a row; pool them (mean, max, last), "
                f"or `leadline extract` them and sweep the store"
            )
        return f"{pool}@{rule.text}" if rule.text else pool

    @field_validator("controls", "measures", mode="before")
    @classmethod
    def _chosen(cls, given: object, info: ValidationInfo) -> object:
        is_control = info.field_name == "controls"
        what, known = ("control", CONTROLS) if is_control else ("measure", MEASURES)
        if given == "default":
            return DEFAULT_CONTROLS if is_control else DEFAULT_MEASURES
        if given == "none":
            return ()
        given = _listed(given)
        if isinstance(given, tuple):
            for one in given:
                if one not in known:
                    raise ValueError(
                        f"unknown {what} {_shown(one)}; expected default, none, or a list of {', '.join(known)}."
                        + did_you_mean(str(one), known)
                    )
            return tuple(dict.fromkeys(given))
        raise ValueError(f"got {_shown(given)}; expected default, none, or a list of {', '.join(known)}")

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> StudyConfig:
        if not self.data.is_builtin and self.data.target is None:
            raise ValueError(f"data: '{self.data.label}' has no 'target'; name the column that holds the labels")
        for number, one in enumerate(self.test):
            if not one.is_builtin and one.target is None:
                raise ValueError(
                    f"test.{number}: '{one.label}' has no 'target', and '{self.data.label}', being built in, has none "
                    f"to share; name the column that holds the labels"
                )
        smallest = 1 / (1 + self.permutations)
        if self.permutations and smallest > self.alpha:
            enough = math.ceil(1 / self.alpha) - 1
            raise ValueError(
                f"permutations: {self.permutations} reach p = {smallest:.3g} at the least, above alpha = "
                f"{self.alpha:g}, so nothing could be supported; give at least {enough}, or 0 for no test"
            )
        name = self.name or self.data.label
        out = Path(self.out or f"runs/{_slug(name)}").expanduser()
        out = out if out.is_absolute() else _folder(info) / out
        # A frozen model is settled by hand: these two defaults follow from other keys.
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "out", str(out.resolve()))
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], *, folder: str | Path | None = None) -> StudyConfig:
        """Check a study given as a dict, as the YAML would be read.

        Parameters
        ----------
        mapping : keys and values as in a study file.
        folder : where relative paths start; the working directory by default.

        Raises
        ------
        ConfigError : an unknown key, or a value of a wrong kind or out of range.

        >>> StudyConfig.from_mapping({"model": "smollm2-135m", "data": "city-facts"}).tokens
        'last'
        """
        return _checked(dict(mapping), Path(folder) if folder is not None else Path.cwd(), _Lines("study", {}))

    def replace(self, **changes: object) -> StudyConfig:
        """A checked copy with some keys changed; relative paths start at the working directory."""
        return self.from_mapping({**self.to_mapping(), **changes})

    def to_mapping(self) -> dict[str, object]:
        """Everything, defaults too, in plain lists, dicts, numbers and texts, ready for YAML or JSON."""
        plain: dict[str, object] = self.model_dump(mode="json")
        return plain

    def to_yaml(self) -> str:
        """A study file, every default written out and paths absolute, which `load_config` reads as equal to this."""
        return yaml.dump(self.to_mapping(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def load_config(path: str | Path) -> StudyConfig:
    """Read and check a study file.

    Raises
    ------
    ConfigError : no such file, not YAML, a key given twice, an unknown key or a wrong value; each with its line.
    """
    file = Path(path)
    if not file.is_file():
        beside = file.parent.iterdir() if file.parent.is_dir() else ()
        near = [one.name for one in beside if one.suffix.lower() in (".yaml", ".yml")]
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(
            f"the study file '{file}' {what}; expected a YAML file such as study.yaml." + did_you_mean(file.name, near)
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"cannot read the study file '{file}' ({error.strerror}); make it readable.") from error
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        lines = _Lines(str(file), dict(_walk(root, str(file))))
        raw = loader.construct_document(root) if root is not None else None
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(error, str(file))) from error
    finally:
        loader.dispose()
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{file} holds {'nothing' if raw is None else _shown(raw)}; expected keys, at least 'model: NAME' and "
            f"'data: NAME'."
        )
    return _checked(raw, file.resolve().parent, lines)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `1e-3` is a number, and `no`, `on` and dates are text."""


class _Dumper(yaml.SafeDumper):
    """Quotes whatever `_Loader`, or a YAML 1.1 reader, would take for something other than text."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _short_list(dumper: yaml.SafeDumper, items: list[object]) -> yaml.Node:
    flat = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(list, _short_list)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", None),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}

_Path = tuple[str | int, ...]


class _Lines:
    """Where each key of a study stands."""

    def __init__(self, file: str, of: dict[_Path, int]) -> None:
        self.file, self.of = file, of

    def at(self, path: _Path) -> int | None:
        """The line of a key, or of the nearest one around it."""
        while path and path not in self.of:
            path = path[:-1]
        return self.of.get(path) if path else None

    def message(self, path: _Path, text: str) -> str:
        line = self.at(path)
        return f"{self.file}{f', line {line}' if line is not None else ''}: {text}"


def _walk(node: yaml.Node | None, file: str, path: _Path = ()) -> Iterator[tuple[_Path, int]]:
    """Every key's path and its line, from 1; a key that stands twice in one mapping is refused."""
    # No study is deeper; an alias that refers to itself would be.
    if len(path) > 8:
        raise ConfigError(f"{file}, line {node.start_mark.line + 1 if node else 0}: nested too deeply for a study.")
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(getattr(key, "value", ""))
            if name in seen and name != "<<":
                raise ConfigError(
                    f"{file}, line {line}: the key '{name}' stands here and in line {seen[name]}; keep one of them."
                )
            seen[name] = line
            yield (*path, name), line
            yield from _walk(value, file, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*path, number), item.start_mark.line + 1
            yield from _walk(item, file, (*path, number))


def _syntax(error: yaml.YAMLError, file: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{file} is not YAML: {error}."
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}" if mark else ""
    advice = "indent with spaces and write 'key: value'"
    if error.problem and "\\t" in error.problem:
        advice = "indent with spaces, not tabs"
    about = f" {error.context}" if error.context else ""
    return f"{file}{where}: not YAML ({error.problem or 'unreadable'}{about}); {advice}."


# What a test file that does not say otherwise has from the data; of the last three only where it has such a column.
_SHARED = ("text", "pairs", "target", "kind", "positive", "order", "group", "pair", "type")


def _inherited(test: object, data: object, folder: Path) -> object:
    """Fill in what a test file leaves out from the data; groups, pairs and types only where it has such a column."""
    test = named_data(test) if isinstance(test, str) else test
    source = named_data(data) if isinstance(data, str) else data
    if not (isinstance(test, Mapping) and isinstance(source, Mapping) and isinstance(test.get("path"), str)):
        return test
    shared = {key: source[key] for key in _SHARED if key in source}
    file = folder / Path(test["path"]).expanduser()
    there = _columns(file)
    for key in ("group", "pair", "type"):
        if key in shared and key not in test and shared[key] not in there:
            del shared[key]
    # A file has its sentences in one column or in two.
    pairs = shared.get("pairs")
    if pairs is not None and (test.get("text") or not isinstance(pairs, Mapping) or not {*pairs.values()} <= {*there}):
        del shared["pairs"]
    if test.get("pairs") or (shared.get("pairs") and "pairs" not in test):
        shared = {key: value for key, value in shared.items() if key not in _NOT_WITH_PAIRS}
    return {**shared, **test}


def _columns(file: Path) -> tuple[str, ...]:
    """The names in a data file's head; none where it cannot be read, which reading the data will report."""
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            import polars as pl

            return tuple(pl.read_parquet_schema(file))
        with file.open(encoding="utf-8-sig", newline="") as lines:
            head = lines.readline()
            if file.suffix.lower() in (".csv", ".tsv"):
                separator = next((one for one in ",\t;" if one in head), ",")
                return tuple(next(csv.reader([head], delimiter=separator), ()))
            rows = json.loads(head + lines.read()) if head.startswith("[") else [json.loads(head)]
            return tuple(rows[0]) if rows and isinstance(rows[0], dict) else ()
    except (OSError, ValueError, csv.Error):
        return ()


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "study"


def _shown(value: object) -> str:
    """A value as its writer would know it, cut short."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a name, or keys with values",
}


def _known(path: _Path) -> tuple[str, ...]:
    """The keys that stand at a path of a study."""
    models: dict[object, type[BaseModel]] = {
        "model": ModelConfig,
        "data": DataConfig,
        "test": DataConfig,
        "probe": ProbeConfig,
        "causal": CausalConfig,
    }
    if "pairs" in path:
        return tuple(PairColumns.model_fields)
    return tuple(models[path[0]].model_fields if path else StudyConfig.model_fields)


def _said(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings in a sentence."""
    path: _Path = tuple(error["loc"])
    key, context, given = ".".join(map(str, path)), error.get("ctx", {}), _shown(error["input"])
    kind = error["type"]
    if kind == "extra_forbidden":
        known = _known(path[:-1])
        place = f" in '{'.'.join(map(str, path[:-1]))}'" if len(path) > 1 else ""
        return f"unknown key '{path[-1]}'{place}; known keys: {', '.join(known)}." + did_you_mean(str(path[-1]), known)
    if kind == "missing":
        example = {"model": "smollm2-135m", "data": "city-facts"}.get(key)
        return f"the key '{key}' is missing" + (f"; add it, as in '{key}: {example}'." if example else "; add it.")
    if kind == "value_error":
        text = str(context["error"])
        return f"{key + ': ' if key else ''}{text}" + ("" if text.endswith((".", "?")) else ".")
    if kind == "literal_error":
        known = tuple(re.findall(r"'([^']+)'", context["expected"]))
        return f"{key}: {given} is not known; expected one of {', '.join(known)}." + did_you_mean(
            str(error["input"]), known
        )
    if kind in _KINDS:
        return f"{key}: expected {_KINDS[kind]}, got {given}."
    for bound, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        if bound in context:
            return f"{key}: {given} is out of range; expected {words} {context[bound]:g}."
    if kind == "invalid_key":
        return f"the key {path[-1]} is no text; known keys: {', '.join(_known(path[:-1]))}."
    if kind == "string_too_short":
        return f"{key}: the text is empty; give one."
    return f"{key}: {error['msg']} (got {given})."


def _checked(raw: dict[Any, Any], folder: Path, lines: _Lines) -> StudyConfig:
    try:
        return StudyConfig.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        found = []
        for one in error.errors():
            text, path = _said(one), tuple(one["loc"])
            # A check over several keys names the one to look at.
            leading = re.match(r"(permutations|data|test\.(\d+)): ", text)
            if not path and leading:
                path = ("test", int(leading[2])) if leading[2] else (leading[1],)
            found.append((lines.at(path) or 0, lines.message(path, text)))
        messages: Sequence[str] = [text for _, text in sorted(found, key=lambda pair: pair[0])]
        raise ConfigError("\n".join(dict.fromkeys(messages))) from error
