"""`leadline models`: what can be loaded without a network, and which architectures can be read."""

from __future__ import annotations

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import megabytes, print_json, print_table, print_text

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline models`
- `leadline models --architectures`
- `leadline models --json`
"""


def command(*, architectures: bool = False, as_json: AsJson = False, common: Common = COMMON) -> int:
    """List the models that need no network, or the architectures that can be read.

    A Hugging Face id, a folder with a transformers model and a .gguf file can be given wherever a model is asked for.

    Parameters
    ----------
    architectures
        List architectures, each with the residual equation that is proved at load.
    """
    if architectures:
        from leadline.models import ARCHITECTURES
        from leadline.models.architectures import COMPOSITES

        rows = [(row.name, row.model_types, row.equation.text, row.kinds) for row in ARCHITECTURES]
        for model_type, (name, parts) in COMPOSITES.items():
            named = ", ".join(part or "language model" for part, *_ in parts)
            rows.append((name, (model_type,), f"parts: {named}, each as its own model type", ()))
        if as_json:
            print_json(
                [
                    {"name": name, "model_types": types, "equation": equation, "kinds": kinds}
                    for name, types, equation, kinds in rows
                ]
            )
        else:
            print_table(
                ["architecture", "model_type", "equation", "sites"],
                [(name, ", ".join(types), equation, " ".join(kinds)) for name, types, equation, kinds in rows],
            )
            print_text("\nany module of any model is a site too: module:PATH")
        return 0

    from leadline.models import list_models

    found = list_models()
    if as_json:
        print_json(found)
        return 0
    print_table(
        ["name", "kind", "available", "size", "what"],
        [
            (
                one.name,
                one.kind,
                "yes" if one.available else "no",
                megabytes(one.n_bytes) if one.n_bytes is not None else None,
                one.description,
            )
            for one in found
        ],
        right=["size"],
    )
    for one in found:
        if one.install:
            print_text(f"\nto get {one.name}: {one.install}")
    return 0
