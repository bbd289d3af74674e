"""Linear probes on a model's internal activations, with the evidence to believe them.

    import leadline as ll

    model = ll.load_model("smollm2-135m")
    data = ll.load_dataset("city-facts")
    acts = ll.extract(model, data, sites="resid_post.*", tokens="last")
    sweep = ll.sweep(acts, ll.Logistic())
    sweep.best.score(model, ["The city of Paris is in Japan."])

The names below are loaded on first use, so that `import leadline` is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leadline.activations import Activations
    from leadline.activations.extract import extract, extract_all
    from leadline.causal import Ablate, Add, Clamp, Erase, Patch, Plan, Rotate, generate, intervene
    from leadline.causal.effects import measure_effect
    from leadline.data import Captioned, Dataset, Picture, Sound, load_dataset
    from leadline.errors import LeadlineError
    from leadline.evidence import Sweep
    from leadline.models import Model, load_model
    from leadline.probes import (
        LDA,
        ElasticNet,
        KSparse,
        LinearSVM,
        Logistic,
        MeanDifference,
        Multinomial,
        NearestCentroid,
        Ordinal,
        Probe,
        ProbeSet,
        Ridge,
        SparseLogistic,
    )
    from leadline.report import write_report
    from leadline.sites import Site
    from leadline.study.config import StudyConfig
    from leadline.study.results import Results
    from leadline.study.run import Study, run_study
    from leadline.study.sweep import sweep
    from leadline.study.transfer import transfer

__version__ = "0.1.0"

__all__ = [
    "LDA",
    "Ablate",
    "Activations",
    "Add",
    "Captioned",
    "Clamp",
    "Dataset",
    "ElasticNet",
    "Erase",
    "KSparse",
    "LeadlineError",
    "LinearSVM",
    "Logistic",
    "MeanDifference",
    "Model",
    "Multinomial",
    "NearestCentroid",
    "Ordinal",
    "Patch",
    "Picture",
    "Plan",
    "Probe",
    "ProbeSet",
    "Results",
    "Ridge",
    "Rotate",
    "Site",
    "Sound",
    "SparseLogistic",
    "Study",
    "StudyConfig",
    "Sweep",
    "__version__",
    "extract",
    "extract_all",
    "generate",
    "intervene",
    "load_dataset",
    "load_model",
    "measure_effect",
    "run_study",
    "sweep",
    "transfer",
    "write_report",
]

_HOMES = {
    "Ablate": "leadline.causal",
    "Activations": "leadline.activations",
    "Add": "leadline.causal",
    "Captioned": "leadline.data",
    "Clamp": "leadline.causal",
    "Dataset": "leadline.data",
    "ElasticNet": "leadline.probes",
    "Erase": "leadline.causal",
    "KSparse": "leadline.probes",
    "LDA": "leadline.probes",
    "LeadlineError": "leadline.errors",
    "LinearSVM": "leadline.probes",
    "Logistic": "leadline.probes",
    "MeanDifference": "leadline.probes",
    "Model": "leadline.models",
    "Multinomial": "leadline.probes",
    "NearestCentroid": "leadline.probes",
    "Ordinal": "leadline.probes",
    "Patch": "leadline.causal",
    "Picture": "leadline.data",
    "Plan": "leadline.causal",
    "Probe": "leadline.probes",
    "ProbeSet": "leadline.probes",
    "Results": "leadline.study.results",
    "Ridge": "leadline.probes",
    "Rotate": "leadline.causal",
    "Site": "leadline.sites",
    "Sound": "leadline.data",
    "SparseLogistic": "leadline.probes",
    "Study": "leadline.study.run",
    "StudyConfig": "leadline.study.config",
    "Sweep": "leadline.evidence",
    "extract": "leadline.activations.extract",
    "extract_all": "leadline.activations.extract",
    "generate": "leadline.causal",
    "intervene": "leadline.causal",
    "load_dataset": "leadline.data",
    "load_model": "leadline.models",
    "measure_effect": "leadline.causal.effects",
    "run_study": "leadline.study.run",
    "sweep": "leadline.study.sweep",
    "transfer": "leadline.study.transfer",
    "write_report": "leadline.report",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'leadline' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
