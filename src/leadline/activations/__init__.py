"""Activations: read once from a model at all wanted sites, pooled to one vector a row, kept on disk, read by site.

What flows in is a `Model` and a `Dataset` (joined by `extract`), or arrays from anywhere
(`Activations.from_arrays`). What flows out is an `ActivationSource`: site by site, an (n, d) float32 array in the
order of the data set. Only `extract` knows models; the store knows files and rows, and nothing of a model's insides.

    plan      which rows make a batch and which batches make a shard
    tokens    which tokens of a row count, and how they become one vector
    extract   the pass over the model
    store     the folder of shards, and `Activations`, which reads it
    writer    writes it, so that a killed run or a second one at once does no harm
    given     arrays from elsewhere
    source    the Protocol that later stages read

Importing this imports no torch; `extract` does when it is called.
"""

from leadline.activations.extract import extract, extract_all
from leadline.activations.manifest import merge
from leadline.activations.plan import BatchPlan
from leadline.activations.source import ActivationSource
from leadline.activations.store import Activations
from leadline.activations.tokens import SELECTIONS, Selection

__all__ = [
    "SELECTIONS",
    "ActivationSource",
    "Activations",
    "BatchPlan",
    "Selection",
    "extract",
    "extract_all",
    "merge",
]
