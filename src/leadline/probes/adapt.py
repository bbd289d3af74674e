"""The form of a family that takes a given kind of target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leadline.errors import ProbeError
from leadline.probes.fit import Family
from leadline.probes.k_sparse import KSparse
from leadline.probes.lda import LDA
from leadline.probes.logistic import Logistic
from leadline.probes.multinomial import Multinomial
from leadline.probes.nearest_centroid import NearestCentroid
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge

__all__ = ["at_setting", "default_family", "family_for"]

_SUGGESTED = {
    "binary": "logistic, ridge, lda or mean_difference",
    "continuous": "ridge or elastic_net",
    "multiclass": "logistic, lda or nearest_centroid",
    "ordinal": "logistic",
}


def family_for(family: Family, kind: str, target: str = "the target") -> Family:
    """The family itself where it takes the kind, else its own form for it.

    Logistic regression of several classes is `Multinomial`, and of ordered ones `Ordinal`, with the same penalties; LDA
    and the nearest centroid have a form for several classes.

    Raises
    ------
    ProbeError : the family has none for this kind.
    """
    if kind in family.kinds:
        return family
    if isinstance(family, Logistic) and kind in ("multiclass", "ordinal"):
        form = Multinomial if kind == "multiclass" else Ordinal
        return form(l2=family.l2, class_weight=family.class_weight, tolerance=family.tolerance, device=family.device)
    if isinstance(family, LDA | NearestCentroid) and kind in ("binary", "multiclass"):
        return replace(family, kind=kind)
    if isinstance(family, KSparse) and kind in ("binary", "continuous"):
        return replace(family, kind=kind)
    raise ProbeError(
        f"{target} is {kind}; the {family.name} probe takes {' and '.join(family.kinds)} targets. "
        f"Use {_SUGGESTED[kind]}."
    )


def default_family(kind: str) -> Family:
    """The family that a target of this kind is read by if none is named."""
    by_kind: dict[str, Family] = {
        "binary": Logistic(),
        "continuous": Ridge(),
        "multiclass": Multinomial(),
        "ordinal": Ordinal(),
    }
    return by_kind[kind]


def at_setting(family: Family, setting: float) -> Family:
    """The family with its parameter fixed at one value; as it is where it has none."""
    if family.parameter is None:
        return family
    value: Any = int(setting) if family.parameter == "k" else float(setting)
    given: Any = family
    fixed: Family = replace(given, **{family.parameter: value})
    return fixed
