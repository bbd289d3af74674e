"""Interventions on a model along a probe's direction, what they change, and which components write the direction.

A probe shows what can be read; an intervention shows what is used. In come a loaded model, encoded texts and a probe
(or any vector); out come effects with intervals, beside the effects of random directions of the same norm, and the
exact shares of the model's components in the probe's score. Nothing here knows studies, data sets or reports.
"""

from leadline.causal.components import ComponentCheck, check_components
from leadline.causal.controls import (
    mean_difference,
    orthogonal_equal_variance,
    random_directions,
    shuffled_label_probe,
)
from leadline.causal.cost import Cost, perplexity_cost
from leadline.causal.curves import Band, Curve, Effect
from leadline.causal.decompose import decompose
from leadline.causal.decomposition import Decomposition
from leadline.causal.effects import measure_effect
from leadline.causal.engine import run_plans
from leadline.causal.eraser import Eraser
from leadline.causal.erasure import LeaceFitter, Whitening, leace, mean_difference_eraser
from leadline.causal.examples import Examples, prompts
from leadline.causal.family_scores import FamilyScores, Latents, family_scores
from leadline.causal.generation import generate, intervene
from leadline.causal.helix import HelixSubspace
from leadline.causal.inlp import inlp
from leadline.causal.intervals import (
    Intervals,
    difference_interval,
    influence_interval,
    mean_interval,
    paired,
    ratio_interval,
)
from leadline.causal.interventions import Ablate, Add, Clamp, Erase, Intervention, Patch, Rotate
from leadline.causal.neutral import NEUTRAL
from leadline.causal.outcomes import Outcomes
from leadline.causal.overlap import HeadOverlap, head_overlap
from leadline.causal.patch_map import PatchMap, RankCorrelation, rank_correlation
from leadline.causal.patching import activation_patching, attribution_patching
from leadline.causal.plan import Bound, Plan
from leadline.causal.silence import Silence, silence
from leadline.causal.unembedding import Lens, Unembedded, logit_lens, read_direction
from leadline.causal.used import Use, VectorEffect, test_use

__all__ = [
    "NEUTRAL",
    "Ablate",
    "Add",
    "Band",
    "Bound",
    "Clamp",
    "ComponentCheck",
    "Cost",
    "Curve",
    "Decomposition",
    "Effect",
    "Erase",
    "Eraser",
    "Examples",
    "FamilyScores",
    "HeadOverlap",
    "HelixSubspace",
    "Intervals",
    "Intervention",
    "Latents",
    "LeaceFitter",
    "Lens",
    "Outcomes",
    "Patch",
    "PatchMap",
    "Plan",
    "RankCorrelation",
    "Rotate",
    "Silence",
    "Unembedded",
    "Use",
    "VectorEffect",
    "Whitening",
    "activation_patching",
    "attribution_patching",
    "check_components",
    "decompose",
    "difference_interval",
    "family_scores",
    "generate",
    "head_overlap",
    "influence_interval",
    "inlp",
    "intervene",
    "leace",
    "logit_lens",
    "mean_difference",
    "mean_difference_eraser",
    "mean_interval",
    "measure_effect",
    "orthogonal_equal_variance",
    "paired",
    "perplexity_cost",
    "prompts",
    "random_directions",
    "rank_correlation",
    "ratio_interval",
    "read_direction",
    "run_plans",
    "shuffled_label_probe",
    "silence",
    "test_use",
]
