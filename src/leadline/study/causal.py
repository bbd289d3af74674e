"""The causal stage: from a finished run's folder to whether the model acts on what its probe reads, and who writes it.

It reads what the run left (the study file, `results.json`, the activations), loads the data and the model again, and
writes `results.json`, `results.parquet` and the report anew. The direction is fitted again at the chosen site and
setting without the groups on which it is then tried.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from leadline.causal import (
    NEUTRAL,
    Examples,
    activation_patching,
    attribution_patching,
    check_components,
    decompose,
    family_scores,
    head_overlap,
    measure_effect,
    prompts,
    rank_correlation,
    read_direction,
    silence,
    test_use,
)
from leadline.causal.controls import Fits
from leadline.causal.interventions import Add
from leadline.data import Dataset
from leadline.data.records import Target
from leadline.errors import CausalError, ConfigError
from leadline.events import SILENT, EventSink, stage
from leadline.evidence.labels import Labels
from leadline.evidence.verdict import Verdict, not_tested
from leadline.files import write_atomic
from leadline.models import Model, load_model
from leadline.models.perplexity import why_no_perplexity
from leadline.probes import FAMILIES, LDA, Family, Logistic, MeanDifference, Probe
from leadline.probes.adapt import at_setting, family_for
from leadline.probes.probe import pattern_of
from leadline.sites import Site
from leadline.study import causal_told as told
from leadline.study import describe
from leadline.study import results as schema
from leadline.study.causal_config import CausalConfig
from leadline.study.causal_rows import CausalRows, choose_rows, two_classes
from leadline.study.config import StudyConfig, load_config
from leadline.study.material import data_activations
from leadline.study.results import Results
from leadline.study.sweep import labels_of
from leadline.study.written import write_results

__all__ = ["add_causal", "run_causal"]

# Random directions of a dose–response band and of the comparison of families: each needs every dose, so fewer do.
_FEW = 19
# Families are compared at equal cost, and every direction has a cost of its own at every dose.
_FAMILY_DOSES, _N_NEUTRAL = (0.1, 0.2, 0.4), 16
# Pairs and tokens of the patching maps.
_N_PAIRS, _N_TOKENS = 16, 12
# Rows on which components are named, before they are checked on others.
_N_NAMING = 64
_LARGEST = 10
# What heads and MLPs write into.
_STREAMS = ("resid_pre", "resid_mid", "resid_post", "final_norm")
_FAMILIES: dict[str, Fits] = {"logistic": Logistic(l2=(0.1,)), "lda": LDA(), "mean_difference": MeanDifference()}


def run_causal(folder: str | Path, causal: CausalConfig | None = None, *, events: EventSink = SILENT) -> Results:
    """Intervene in a finished run, and write its results and report anew.

    Parameters
    ----------
    folder : of the run. causal : what to do; by default what its study file says under `causal:`.

    Raises
    ------
    ConfigError : no finished run, or nothing to do. Else as the stages: with what was given and what to do.
    """
    from leadline.report import write_report

    run = Path(folder)
    results = Results.read(run)
    config = load_config(run / "study.yaml")
    if causal is not None:
        config = config.replace(causal=causal.model_dump(mode="json"))
    if config.causal is None:
        raise ConfigError(
            f"the study of '{run}' has no 'causal' section; say what to ask, as in --prompt '{{text}} This is' "
            f"--positive ' true' --negative ' false'."
        )
    found = add_causal(results, config, run, events)
    write_atomic(run / "study.yaml", config.replace(out=str(run)).to_yaml())
    write_results(found, run)
    write_report(found, run / "report.html")
    return found


def add_causal(results: Results, config: StudyConfig, folder: Path, events: EventSink) -> Results:
    """The results of a study with interventions for every target, and the verdicts that follow from them."""
    assert config.causal is not None
    from leadline.data import load_dataset

    name, keywords = config.data.arguments()
    with stage(events, "data", config.data.label):
        data = load_dataset(name, **{"seed": config.seed, **keywords})
    model = load_model(
        config.model.name,
        dtype=config.model.dtype,
        device=config.model.device,
        revision=config.model.revision,
        events=events,
    )
    _check(results, data, model, folder)
    acts = data_activations(config, model, data, folder / "activations", events)
    targets = []
    for one in results.targets:
        target, began = data.target(one.target), time.perf_counter()
        decodes = next(v.verdict for v in one.verdicts if v.claim == "decodable")
        site = Site.parse(config.causal.site or one.best.site)
        if site not in acts.sites:
            raise ConfigError(
                f"causal.site is {site}, which the study did not read; it read {', '.join(s.name for s in acts.sites)}."
            )
        setting = (
            one.best.setting
            if site.name == one.best.site
            else next(s.setting for s in one.sites if s.site == site.name)
        )
        labels = labels_of(data, target)
        why = _why_not(data, target, model)
        if why:
            empty = _empty(config.causal, site, why)
            verdicts = [not_tested("used", why), not_tested("where from", why)]
            targets.append(_with(one, empty, verdicts))
            continue
        X = np.asarray(acts.read(site), dtype=np.float64)[labels.rows]
        try:
            work = _Work.of(config, model, data, labels, X, site, setting, events)
        except CausalError as error:
            # Rows or answers that carry no intervention are this target's finding, and no reason to lose the others'.
            why = str(error)
            verdicts = [not_tested("used", why), not_tested("where from", why)]
            targets.append(_with(one, _empty(config.causal, site, why), verdicts))
            continue
        found, verdicts = work.run(decodes)
        found = found.model_copy(update={"seconds": round(time.perf_counter() - began, 1)})
        targets.append(_with(one, found, verdicts))
    return results.model_copy(update={"targets": targets, "study": config.to_mapping()})


def _check(results: Results, data: Dataset, model: Model, folder: Path) -> None:
    if data.fingerprint != results.data.fingerprint:
        raise ConfigError(f"the data have changed since the run in '{folder}'; run the study again first.")
    if model.fingerprint != results.model.fingerprint:
        raise ConfigError(
            f"the run in '{folder}' was made with a model of fingerprint {results.model.fingerprint}; the one that "
            f"loads now has {model.fingerprint}. Run the study again first."
        )


def _why_not(data: Dataset, target: Target, model: Model) -> str:
    """Why no intervention can be made in a study of such data, or `""`."""
    if data.modality != "text":
        return f"Interventions in a study take texts, and the rows are of the kind {data.modality}."
    if data.span_column is not None:
        return "Interventions in a study take whole texts, and the rows are words of sentences."
    if target.kind not in ("binary", "continuous") or len(target.columns) != 1:
        return (
            f"Interventions in a study go along one direction, of two classes or one number; '{target.name}' "
            f"is {target.kind} with {max(len(target.columns), len(target.classes))} outputs."
        )
    if not model.parts:
        return f"'{model.name}' was loaded for named modules only, whose streams cannot be followed."
    return ""


def _with(one: schema.TargetResult, found: schema.CausalResult, verdicts: Sequence[Verdict]) -> schema.TargetResult:
    """The target's results with the two claims as they are now."""
    new = {v.claim: describe.verdict_of(v) for v in verdicts}
    return one.model_copy(update={"causal": found, "verdicts": [new.get(v.claim, v) for v in one.verdicts]})


def _empty(causal: CausalConfig, site: Site, why: str) -> schema.CausalResult:
    return schema.CausalResult(
        site=site.name,
        tokens=causal.tokens,
        prompt=causal.prompt,
        n_examples=0,
        n_groups=0,
        n_pairs=0,
        n_random=0,
        behaviour_reason=why,
        where_from_reason=why,
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """One target of a study: the rows, the direction, the prompts, and what is done with them."""

    config: StudyConfig
    causal: CausalConfig
    model: Model
    labels: Labels
    site: Site
    rows: CausalRows
    X: np.ndarray
    values: np.ndarray
    y: np.ndarray
    family: Fits
    probe: Probe
    examples: Examples
    cosine: float
    events: EventSink

    @classmethod
    def of(
        cls,
        config: StudyConfig,
        model: Model,
        data: Dataset,
        labels: Labels,
        X: np.ndarray,
        site: Site,
        setting: float | None,
        events: EventSink,
    ) -> _Work:
        causal = config.causal
        assert causal is not None
        values = labels.Y[:, 0]
        y = two_classes(values, labels.kind)
        rows = choose_rows(y, labels.groups, causal.examples, config.seed, labels.pairs)
        family = family_for(FAMILIES[config.probe.family](**config.probe.options()), labels.kind)
        if setting is not None:
            family = at_setting(family, setting)
        probe = _fit(family, X, labels, rows.fitted, site, config, model)
        whole = _fit(family, X, labels, np.arange(len(y)), site, config, model)
        examples = _prompts(causal, model, data, labels, y, rows.tried, config.seed)
        return cls(
            config=config,
            causal=causal,
            model=model,
            labels=labels,
            site=site,
            rows=rows,
            X=X,
            values=values,
            y=y,
            family=cast(Fits, family),
            probe=probe,
            examples=examples,
            cosine=float(probe.direction @ whole.direction),
            events=events,
        )

    def wants(self, part: str) -> bool:
        return part in self.causal.parts

    @property
    def tokens(self) -> str:
        """The edited tokens, of the text inside its prompt."""
        return f"{self.causal.tokens}@span:text"

    def run(self, decodes: str) -> tuple[schema.CausalResult, list[Verdict]]:
        """Everything that was asked for, and the claims "used" and "where from"."""
        causal, examples = self.causal, self.examples
        why = why_no_perplexity(self.model)
        behaviour = "" if causal.has_answers else "No answers were given (positive and negative under causal:)."
        behaviour = behaviour or (f"No answer has a probability here: {why}." if why else "")
        parts: dict[str, object] = {}
        measures: list[schema.Measure] = []
        used_verdict = not_tested("used", behaviour or "Interventions were left out (parts under causal:).")
        fitted, seed = self.rows.fitted, self.config.seed
        X, values = self.X[fitted], self.values[fitted]
        groups = None if self.labels.groups is None else self.labels.groups[fitted]
        common = {"site": self.site, "tokens": self.tokens, "fitted_groups": groups}
        common |= {"seed": seed, "events": self.events}
        if not behaviour and self.wants("effects"):
            use = test_use(
                self.model,
                examples,
                self.probe,
                X,
                values,
                n_random=causal.random_directions,
                family=self.family,
                **common,  # type: ignore[arg-type]
            )
            used_verdict = use.verdict(decodes, self.config.alpha)
            parts |= {"natural": told.figure(use.natural), "accuracy": told.figure(use.accuracy)}
            parts |= {"effects": told.effects_of(use), "nulls": told.nulls_of(use)}
            measures.append(told.ablation_told(use))
        if not behaviour and self.wants("doses"):
            effect = measure_effect(
                self.model,
                examples,
                Add(self.probe, 1.0, site=self.site, tokens=self.tokens),
                [sign * dose for dose in causal.doses for sign in (-1, 1)],
                X=X,
                y=values,
                family=self.family,
                fitted_groups=groups,
                n_random=_FEW,
                budget=causal.cost_budget,
                seed=seed,
                events=self.events,
            )
            parts |= {"curves": told.curves_of(effect), "bands": told.bands_of(effect)}
            parts["cost_budget"] = causal.cost_budget
        if not behaviour and self.wants("families"):
            families: dict[str, Fits] = {str(name): _FAMILIES[name] for name in causal.families if name in _FAMILIES}
            scores = family_scores(
                self.model,
                examples,
                X,
                self.y[fitted],
                families,
                doses=_FAMILY_DOSES,
                budget=causal.cost_budget,
                n_random=_FEW,
                neutral=NEUTRAL[:_N_NEUTRAL],
                **common,  # type: ignore[arg-type]
            )
            measures.append(told.families_told(scores))
        if self.wants("silence"):
            last = Site("resid_post", self.model.n_layers - 1, part=self.site.part)
            behind = [last] if last.depth > self.site.depth else []
            measures.append(
                told.silence_told(silence(self.model, examples, X, self.y[fitted], downstream=behind, **common))  # type: ignore[arg-type]
            )
        where = not_tested("where from", "The decomposition was left out (parts under causal:).")
        if self.wants("decomposition"):
            more, where, tables = self._decomposed(decodes)
            parts |= more
            measures += tables
        if self.wants("patching"):
            parts["heat_maps"], notes = self._patched(bool(behaviour))
        else:
            notes = []
        if not causal.prompt.startswith("{text}"):
            notes.append("the direction was fitted on the texts alone, and something stands before them in the prompt.")
        result = schema.CausalResult(
            site=self.site.name,
            tokens=causal.tokens,
            prompt=causal.prompt,
            positive=list(causal.positive),
            negative=list(causal.negative),
            answers_from=[c for c in (causal.positive_column, causal.negative_column) if c],
            n_examples=len(examples),
            n_groups=len(np.unique(examples.groups)),
            n_pairs=int((examples.partner >= 0).sum()),
            n_random=causal.random_directions,
            cosine=float(self.probe.direction @ self.probe.pattern),
            behaviour_reason=behaviour,
            measures=measures,
            notes=[
                f"the direction was fitted anew on {len(fitted):,} rows of other groups than the {len(examples)} it "
                f"was tried on (cosine {self.cosine:.3f} with the probe of all rows).",
                *notes,
            ],
            **parts,  # type: ignore[arg-type]
        )
        return result, [used_verdict, where]

    def _decomposed(self, decodes: str) -> tuple[dict[str, object], Verdict, list[schema.Measure]]:
        """The score taken apart; components are named on some rows and ablated on others."""
        tokens = self.config.tokens
        if self.site.kind not in (*_STREAMS, "attn_out", "mlp_out"):
            why = f"A score at {self.site} has no parts: nothing is added up there."
            return {"where_from_reason": why}, not_tested("where from", why), []
        rng = np.random.default_rng([self.config.seed, 621])
        naming = np.sort(rng.permutation(self.rows.fitted)[:_N_NAMING])
        try:
            named = decompose(self.model, self._plain(naming), self.probe, tokens, events=self.events)
            tried = self._plain(self.rows.tried)
            found = decompose(self.model, tried, self.probe, tokens, events=self.events)
            components = named.named(share=0.8)[:_LARGEST]
        except CausalError as error:
            why = f"The score cannot be taken apart: {error}"
            return {"where_from_reason": why}, not_tested("where from", why), []
        check = check_components(
            self.model, tried, found, self.probe, components=components, seed=self.config.seed, events=self.events
        )
        read = None if why_no_perplexity(self.model) else read_direction(self.model, self.probe, site=self.site)
        overlap = None
        if self.model.n_heads and self.site.kind in _STREAMS:
            overlap = head_overlap(self.model, self.probe, site=self.site)
        parts: dict[str, object] = {
            "contributions": told.contributions_of(found),
            "n_contributions": len(found.components),
            "decomposition_error": float(found.error.max()),
        }
        return parts, check.verdict(decodes, self.config.alpha), told.component_measures(check, read, overlap)

    def _plain(self, rows: np.ndarray) -> Examples:
        """Rows as the probe reads them, without prompt or answers."""
        texts = self.labels.texts
        assert texts is not None
        return prompts(
            self.model,
            [texts[i] for i in rows],
            positive=(),
            negative=(),
            y=self.y[rows],
            groups=None if self.labels.groups is None else self.labels.groups[rows],
        )

    def _patched(self, no_behaviour: bool) -> tuple[list[schema.HeatMap], list[str]]:
        """Maps of the score, exact and by gradients, and of the answers, over pairs of as many tokens."""
        lengths = np.array([row.length for row in self.examples.rows])
        partner = self.examples.partner
        # From the negative class to the positive one: the other way round changes would cancel these.
        fits = np.flatnonzero((partner >= 0) & (lengths == lengths[partner]) & (self.examples.y == 0))
        if len(fits) < 2:
            return [], ["no two pairs of opposite class have as many tokens, so no patching maps are given."]
        chosen = self.examples.take(fits[:_N_PAIRS])
        other = self.examples.take(partner[fits[:_N_PAIRS]])
        sites = [s for s in self._sites() if s.depth <= self.site.depth] or [self.site]
        reader = self._probe_in_prompt()
        maps = []
        exact = activation_patching(self.model, chosen, other, reader, sites, positions=_N_TOKENS, events=self.events)
        quick = attribution_patching(self.model, chosen, other, reader, sites, positions=_N_TOKENS, events=self.events)
        try:
            agree = f"rank correlation with the exact map {rank_correlation(exact, quick).of_means:.2f}"
        except CausalError:
            agree = "too few cells have an effect to compare it with the exact map"
        maps.append(
            told.heat_map(
                exact,
                "score_exact",
                "The probe's score: activation patching",
                "Change of a negative example's score when the activation there is a positive one's.",
            )
        )
        maps.append(
            told.heat_map(
                quick,
                "score_attribution",
                "The probe's score: attribution patching",
                f"The same to first order, from one pass forward and back (Nanda 2023); {agree}. Early sites are "
                "underestimated where norms follow a large change.",
            )
        )
        if not no_behaviour:
            answers = activation_patching(
                self.model, chosen, other, None, self._sites(), positions=_N_TOKENS, events=self.events
            )
            maps.append(
                told.heat_map(
                    answers,
                    "answers_exact",
                    "The answers: activation patching",
                    "Change of a negative example's log odds when the activation there is a positive one's.",
                )
            )
        return maps, []

    def _sites(self) -> list[Site]:
        """Every third block's stream, the probe's site among them."""
        every = self.model.sites(f"{self.site.part}:resid_post.*" if self.site.part else "resid_post.*")
        step = max(1, len(every) // 8)
        chosen = {*every[::step], *([self.site] if self.site.kind == "resid_post" else [])}
        return sorted(chosen, key=lambda s: s.depth)

    def _probe_in_prompt(self) -> Probe:
        """The probe, reading the edited tokens of the text inside its prompt."""
        return replace(self.probe, tokens=f"{self.causal.tokens if self.causal.tokens != 'all' else 'mean'}@span:text")


def _fit(
    family: Family, X: np.ndarray, labels: Labels, rows: np.ndarray, site: Site, config: StudyConfig, model: Model
) -> Probe:
    fit = family.fit_site(X[rows], labels.Y[rows], np.full(len(rows), -1))
    coef = np.asarray(fit.coef[0, 0], dtype=np.float64)
    return Probe(
        site=site,
        coef=coef,
        intercept=float(fit.intercept[0, 0]),
        pattern=pattern_of(X[rows], coef),
        family=family.name,
        kind=labels.kind,
        target=labels.name,
        negative=labels.negative,
        positive=labels.positive,
        tokens=config.tokens,
        model=config.model.name,
        model_fingerprint=model.fingerprint,
    )


def _prompts(
    causal: CausalConfig, model: Model, data: Dataset, labels: Labels, y: np.ndarray, rows: np.ndarray, seed: int
) -> Examples:
    """The tried rows in the prompt, with their answers."""
    texts = labels.texts
    assert texts is not None
    sides: list[object] = []
    for shared, column in ((causal.positive, causal.positive_column), (causal.negative, causal.negative_column)):
        if column is None:
            sides.append(shared)
            continue
        if column not in data.frame.columns:
            raise ConfigError(
                f"causal names the column '{column}' for answers, which '{data.name}' has not; it has "
                f"{', '.join(data.frame.columns)}."
            )
        values = data.frame[column].to_list()
        own = [values[labels.rows[i]] for i in rows]
        if any(value is None or not str(value).strip() for value in own):
            raise ConfigError(f"the column '{column}' of '{data.name}' has rows without an answer; give every row one.")
        sides.append([(str(value),) for value in own])
    return prompts(
        model,
        [texts[i] for i in rows],
        template=causal.prompt,
        positive=sides[0],  # type: ignore[arg-type]
        negative=sides[1],  # type: ignore[arg-type]
        y=y[rows],
        groups=None if labels.groups is None else labels.groups[rows],
        pairs=None if labels.pairs is None else labels.pairs[rows],
        seed=seed,
    )
