"""Do the activations of numbers, days and months run along circles? Helix and Fourier against their rivals, by block.

One row a number: prompts that end in it, their last-token activations averaged over the prompts. The first rival is a
polynomial of as many parameters a dimension; numbers are held out whole. The second is the order itself: a code that
gives every last digit a place of its own, in no order, repeats every 10 numbers too. So the share of the variance that
a wave of period 10 carries is held against the same with the digits renamed at random. Days and months likewise.
"""
# ruff: noqa: T201

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import numpy as np
from real_data import activations

import leadline as ll
from leadline.probes import Fourier, Helix
from leadline.probes.periodic import DAYS, MONTHS, PeriodicFit, spectrum

BLOCKS = (0, 2, 8, 14, 20, 26, 29)
DAY = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTH = ("January", "February", "March", "April", "May", "June", "July", "August")
MONTH += ("September", "October", "November", "December")
PROMPTS = {
    "number": ("The number {}", "I counted to {}", "There were {}", "The answer is {}"),
    "day": ("Today is {}", "The shop is closed on {}", "We will meet again on {}", "It happened last {}"),
    "month": ("It was in {}", "They were married in {}", "The month of {}", "We will meet again in {}"),
}


def mean_activations(model: ll.Model, kind: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """(number of names, d) a site, averaged over the prompts."""
    texts = [prompt.format(name) for prompt in PROMPTS[kind] for name in names]
    sites = ["embed", *(f"resid_post.{block}" for block in BLOCKS)]
    found = activations(model, texts, sites)
    return {site: X.reshape(len(PROMPTS[kind]), len(names), -1).mean(axis=0) for site, X in found.items()}


def show(title: str, fits: dict[str, PeriodicFit]) -> None:
    """A row a site: out-of-fold R² of the basis and its rivals, and the paired differences."""
    first = next(iter(fits.values()))
    print(f"\n{title}: {first.n_parameters} parameters a dimension, R² out of fold over distinct numbers")
    print(f"{'site':14s} {'basis':25s} {'polynomial':25s} {'basis - polynomial':25s} {'pca - basis':25s}")
    for site, fit in fits.items():
        parts = (fit.r2["basis"], fit.r2["polynomial"], fit.advantage, fit.shortfall)
        print(f"{site:14s} " + " ".join(f"{part!r:25s}" for part in parts))


def show_order(title: str, sites: dict[str, np.ndarray], period: float, orders: Iterable[np.ndarray]) -> None:
    """The share of the variance at a period, and how many of the other orders of the rows give as large a one."""
    print(f"\n{title}: share of the variance at period {period:g}, against other orders")
    given = list(orders)
    for site, X in sites.items():
        values = np.arange(len(X))
        shares = []
        for order in (values, *given):
            power = spectrum(X[order], values, detrend=False)
            shares.append(power.filter((power["period"] - period).abs() < 1e-9)["power"].item())
        at_least = int((np.array(shares[1:]) >= shares[0] - 1e-12).sum())
        p = (1 + at_least) / (1 + len(given))
        print(f"{site:14s} {shares[0]:.3f}, median of the others {np.median(shares[1:]):.3f}, p = {p:.4f}")


def main() -> None:
    model = ll.load_model("smollm2-135m", dtype="float32")

    # All of two digits: "7" and "37" end in the same token, but stand at other places.
    values = np.arange(10, 100)
    numbers = mean_activations(model, "number", tuple(str(v) for v in values))
    print(f"tokens of 'The number 37': {model.tokenizer.tokenize('The number 37')}")
    show("numbers 10-99, periods 2, 5, 10, 100", {s: Helix().fit(X, values, n_folds=10) for s, X in numbers.items()})
    show("numbers 10-99, period 10", {s: Helix(periods=(10.0,)).fit(X, values, n_folds=10) for s, X in numbers.items()})
    rng = np.random.default_rng(0)
    renamed = [(np.arange(0, 90, 10)[:, None] + rng.permutation(10)).ravel() for _ in range(999)]
    some = {site: numbers[site] for site in ("embed", "resid_post.2", "resid_post.14", "resid_post.29")}
    show_order("numbers 10-99, digits renamed 999 times", some, 10.0, renamed)

    for kind, names, periods in (("day", DAY, DAYS), ("month", MONTH, MONTHS)):
        found = mean_activations(model, kind, names)
        order = np.arange(len(names))
        fits = {site: Fourier(periods=periods).fit(X, order, n_folds=len(names)) for site, X in found.items()}
        show(f"{kind}s, period {periods[0]:g}, each {kind} left out in turn", fits)
        # Seven days have 360 circular orders but for direction, which can all be tried; months are drawn.
        others: list[np.ndarray] = [rng.permutation(len(names)) for _ in range(999)]
        if kind == "day":
            others = [np.array((0, *p)) for p in permutations(range(1, 7)) if p[0] < p[-1] and p != (1, 2, 3, 4, 5, 6)]
        some = {site: found[site] for site in ("embed", "resid_post.2", "resid_post.14", "resid_post.29")}
        show_order(f"{kind}s, {len(others)} other orders", some, periods[0], others)


if __name__ == "__main__":
    main()
