"""Models: load one, prove where its residual stream runs, and read it.

What flows in is the name of a model (or a torch module); what flows out is a `Model`, whose `read` and `reading`
give the activations at named sites, and whose `encode` turns texts into token ids. Which module holds which site
is a row of the table in `architectures`, and `check` proves that row on the model's own weights before anything
reads through it. This room knows nothing of data sets, stores or probes.

`import leadline.models` imports no torch: the names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leadline.models.architectures import ARCHITECTURES, Architecture
    from leadline.models.catalogue import ListedModel, list_models
    from leadline.models.check import Proof
    from leadline.models.load import load_model
    from leadline.models.model import Model

__all__ = ["ARCHITECTURES", "Architecture", "ListedModel", "Model", "Proof", "list_models", "load_model"]

_HOMES = {
    "ARCHITECTURES": "architectures",
    "Architecture": "architectures",
    "ListedModel": "catalogue",
    "Model": "model",
    "Proof": "check",
    "list_models": "catalogue",
    "load_model": "load",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
