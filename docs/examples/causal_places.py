"""Does a model say north or south, east or west, along the directions that read latitude and longitude from names?

Ridge on the coordinates of 1,500 names (Gurnee and Tegmark 2023), tried on places of other countries: moved at the
name's last token by what sets the hemispheres apart, does "… is in a country in the" go on with the other one? The
prompt was the one of five whose answers tell the hemispheres of fitted places apart best.
"""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import polars as pl
from causal_told import auroc, show
from real_data import activations, data_file

import leadline as ll
from leadline.causal import prompts, test_use
from leadline.probes import Ridge
from leadline.study.causal_rows import choose_rows

SITE = "resid_post.14"
TEMPLATE = "{text} is in a country in the"
ASKED = {"latitude": ("north", "south"), "longitude": ("east", "west")}


def answers(word: str) -> tuple[str, ...]:
    """ " north", " northern", " North" and " Northern"."""
    return tuple(f" {w}{end}" for w in (word, word.title()) for end in ("", "ern"))


def main() -> None:
    instead = "The built-in sets hold no places with coordinates."
    frame = pl.read_csv(data_file("world_models/world_place.csv", instead)).filter(~pl.col("is_test"))
    frame = frame.sample(3000, seed=0, shuffle=True)
    names, country = frame["name"].to_list(), frame["country"].to_numpy()
    model = ll.load_model("smollm2-135m", dtype="float32")
    X = activations(model, names, SITE)[SITE].astype(np.float64)
    for target, (positive, negative) in ASKED.items():
        value = frame[target].to_numpy()
        y = (value > 0).astype(np.float64)
        # Most countries are northern and eastern; as the class 1, the others are taken as often.
        rows = choose_rows(1 - y, country, 48, seed=0)
        fitted, tried = rows.fitted[:1500], rows.tried
        new = np.flatnonzero(~np.isin(country, country[rows.fitted]))
        fit = Ridge().fit(X[fitted], value[fitted], groups=country[fitted], names=[target], site=SITE)
        error = np.square(fit.scores[:, 0] - value[fitted]).mean() / value[fitted].var()
        print(f"{target}: fitted on {len(fitted)} places of {len(set(country[fitted]))} countries, ", end="")
        print(f"R² {1 - error:.3f} with countries held out; {y[tried].mean():.0%} of those tried are {positive}ern")
        use = test_use(
            model,
            prompts(
                model,
                [names[i] for i in tried],
                template=TEMPLATE,
                positive=answers(positive),
                negative=answers(negative),
                y=y[tried],
                groups=country[tried],
            ),
            fit.probe,
            X[fitted],
            y[fitted],
            tokens="last@span:text",
            n_random=99,
            nulls=("pattern",),
            fitted_groups=country[fitted],
        )
        show(use, auroc(fit.probe.score(X[new]), y[new], country[new]))
        print()


if __name__ == "__main__":
    main()
