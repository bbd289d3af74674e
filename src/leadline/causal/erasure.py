"""LEACE: the smallest affine change after which no linear probe can tell a concept, exact or from a stream of rows."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch

from leadline.causal.eraser import Eraser
from leadline.errors import CausalError
from leadline.sites import Site

__all__ = ["Eraser", "LeaceFitter", "Whitening", "leace", "mean_difference_eraser"]

_UNCORRELATED = 1e-8
"""A canonical correlation below this is rounding: the concept is already absent along it."""
_EPS = float(np.finfo(np.float64).eps)


def leace(
    X: np.ndarray,
    y: np.ndarray,
    *,
    kind: str | None = None,
    site: str | Site | None = None,
    label: str = "a concept",
    model_fingerprint: str | None = None,
) -> Eraser:
    """Fit LEACE on rows in memory.

    Among all affine maps r with Cov(r(x), z) = 0, the one of least E‖r(x) − x‖², in any inner product at once:

        r(x) = x − W⁺ P W (x − μ),    W = (Σ_XX^½)⁺,    P the orthogonal projection on the columns of W Σ_XZ,

    with the moments of the rows given. After it the classes' means are equal, so that on these rows no linear
    probe of convex loss beats a constant. A row that is not of these keeps what lies outside their span.

    To ask whether a fresh probe still reads the concept, give the eraser, the probe and the test rows of their own. On
    the eraser's rows a linear probe's best weights are 0, so that it tests nothing; and cross-validated on them its
    scores fall below chance, as the means of one part lean against those of the other.

    Parameters
    ----------
    X : (n, d) activations. y : (n,) labels or numbers, or (n, m) numbers.
    kind : `"classes"`, any number of them, or `"continuous"`, in which numbers count as such. None: numbers of a
        floating type and several columns are continuous, else classes. For two classes it is the same.
    site, label, model_fingerprint : written into the eraser.

    Returns
    -------
    `Eraser`, of rank C − 1 for C classes, at most m for m columns, and less where the concept is absent.

    Raises
    ------
    CausalError : shapes that do not fit, values that are not finite, a single class, a target that does not vary.

    References
    ----------
    N. Belrose, D. Schneider-Joseph, S. Ravfogel, R. Cotterell, E. Raff and S. Biderman (2023), LEACE: Perfect linear
    concept erasure in closed form, NeurIPS 36.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 200)
    >>> X = rng.normal(size=(200, 8)) + 3 * y[:, None]
    >>> erased = leace(X, y).apply(X)
    >>> bool(np.allclose(erased[y == 0].mean(0), erased[y == 1].mean(0)))
    True
    """
    return Whitening(X).eraser(y, kind=kind, site=site, label=label, model_fingerprint=model_fingerprint)


class Whitening:
    """Rows whitened once, to erase many targets from (permuted labels, for one).

    Parameters
    ----------
    X : (n, d) activations, finite.

    Raises
    ------
    CausalError : X is no such array.
    """

    def __init__(self, X: np.ndarray) -> None:
        rows = as_rows(X)
        self.mean = rows.mean(axis=0)
        self._rows = rows - self.mean
        self._spread = Spread.of_rows(self._rows, self.mean)

    def eraser(
        self,
        y: np.ndarray,
        *,
        kind: str | None = None,
        site: str | Site | None = None,
        label: str = "a concept",
        model_fingerprint: str | None = None,
    ) -> Eraser:
        """The LEACE eraser of y; see `leace`."""
        n = len(self._rows)
        Z = targets_of(y, n, kind)
        centred = Z - Z.mean(axis=0)
        left, right = self._spread.factors(self._rows.T @ centred / n, centred.T @ centred / n)
        return Eraser(left, right, self.mean, None if site is None else Site.parse(site), label, model_fingerprint)


class LeaceFitter:
    """LEACE from batches of rows that are each seen once; see `leace`.

    Means and cross products are merged centred, a batch at a time, so that no small variance is lost below a large
    mean. Memory: one (d, d) float64 matrix.

    Parameters
    ----------
    d : width. n_classes : C of the codes 0 … C − 1; or n_targets : m of the columns of numbers, in its place.

    Raises
    ------
    CausalError : not exactly one of n_classes ≥ 2 and n_targets ≥ 1, or no width.
    """

    def __init__(self, d: int, n_classes: int | None = None, *, n_targets: int | None = None) -> None:
        if d < 1 or (n_classes is None) == (n_targets is None) or (n_classes or 2) < 2 or (n_targets or 1) < 1:
            raise CausalError(
                f"got d={d}, n_classes={n_classes} and n_targets={n_targets}; expected a width, and either two classes "
                "or more or a number of target columns."
            )
        self.d, self.n_classes = d, n_classes
        m = n_classes if n_classes is not None else (n_targets or 1)
        self.n = 0
        self.mean, self._mean_z = np.zeros(d), np.zeros(m)
        self._xx, self._xz, self._zz = np.zeros((d, d)), np.zeros((d, m)), np.zeros((m, m))

    def update(self, X: np.ndarray | torch.Tensor, z: np.ndarray | torch.Tensor) -> LeaceFitter:
        """Take in a batch.

        Parameters
        ----------
        X : (b, d) activations. z : (b,) class codes, or (b, m) numbers ((b,) for m = 1).

        Raises
        ------
        CausalError : shapes, codes or values that do not fit. Nothing of the batch is then taken in.
        """
        rows = as_rows(X, self.d)
        Z = self._targets(z, len(rows))
        b = len(rows)
        mean, mean_z = rows.mean(axis=0), Z.mean(axis=0)
        rows, Z = rows - mean, Z - mean_z
        step, step_z = mean - self.mean, mean_z - self._mean_z
        between = self.n * b / (self.n + b)
        self._xx += rows.T @ rows + between * np.outer(step, step)
        self._xz += rows.T @ Z + between * np.outer(step, step_z)
        self._zz += Z.T @ Z + between * np.outer(step_z, step_z)
        self.n += b
        self.mean = self.mean + step * (b / self.n)
        self._mean_z = self._mean_z + step_z * (b / self.n)
        return self

    @property
    def eraser(self) -> Eraser:
        """The eraser of the rows so far; `Eraser.at` binds it to a site.

        Raises
        ------
        CausalError : no two rows yet, or none but of one class.
        """
        if self.n < 2 or not (np.diag(self._zz) > 0).any():
            raise CausalError(
                f"{self.n} rows, whose targets do not differ, hold no concept to erase; update with rows of two "
                "classes or more."
            )
        spread = Spread.of_covariance(self._xx / self.n, self.mean)
        left, right = spread.factors(self._xz / self.n, self._zz / self.n)
        return Eraser(left, right, self.mean)

    def _targets(self, z: np.ndarray | torch.Tensor, b: int) -> np.ndarray:
        codes = _to_numpy(z)
        if self.n_classes is None:
            Z = targets_of(codes.astype(np.float64), b, "continuous", varying=False)
            if Z.shape[1] != len(self._mean_z):
                raise CausalError(f"got targets of {Z.shape[1]} columns; this fitter takes {len(self._mean_z)}.")
            return Z
        if codes.shape != (b,) or not np.isin(codes, np.arange(self.n_classes)).all():
            raise CausalError(
                f"got codes of shape {codes.shape} for {b} rows; expected one code of 0 to {self.n_classes - 1} a row."
            )
        return np.eye(self.n_classes)[codes.astype(np.int64)]


def mean_difference_eraser(
    X: np.ndarray,
    y: np.ndarray,
    *,
    site: str | Site | None = None,
    label: str = "a concept",
    model_fingerprint: str | None = None,
) -> Eraser:
    """r(x) = x − V'V(x − μ), V an orthonormal basis of the differences of the class means: the simple rival.

    The class means are equal after it, as after LEACE, for a change at least as large.

    Parameters
    ----------
    X : (n, d) activations. y : (n,) labels, of two classes or more. The others as in `leace`.

    Raises
    ------
    CausalError : as for `leace`.
    """
    rows = as_rows(X)
    Z = targets_of(y, len(rows), "classes")
    mean = rows.mean(axis=0)
    offsets = (Z.T @ (rows - mean)) / Z.sum(axis=0)[:, None]
    _, size, basis = np.linalg.svd(offsets, full_matrices=False)
    # Class means are equal but for rounding where they differ by less than this share of the rows' spread.
    floor = _UNCORRELATED * float(np.sqrt(np.square(rows - mean).sum(axis=1).mean()))
    basis = basis[: Z.shape[1] - 1][size[: Z.shape[1] - 1] > floor]
    return Eraser(basis, basis, mean, None if site is None else Site.parse(site), label, model_fingerprint)


class Spread:
    """Σ_XX by its eigenvectors on its support: `whiten` (r, d) gives whitened coordinates, `root` (r, d) takes back."""

    def __init__(self, values: np.ndarray, vectors: np.ndarray, scale: np.ndarray) -> None:
        root = np.sqrt(values)[:, None]
        self.root = root * vectors * scale
        self.whiten = vectors / root / scale
        self.rank, d = vectors.shape
        # (d, r) an orthonormal basis of the support, where that is not everything.
        self.support = None if self.rank == d else np.linalg.qr((vectors * scale).T)[0]
        # The features were scaled, so outside the support `whiten` would read what the pseudo-inverse of Σ does not; on
        # the support both agree, whatever the scale.
        self.whiten = self.on_support(self.whiten)

    def on_support(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (q, d) without what they hold outside the support."""
        return vectors if self.support is None else np.asarray((vectors @ self.support) @ self.support.T)

    @classmethod
    def of_rows(cls, centred: np.ndarray, mean: np.ndarray) -> Spread:
        """From centred rows (n, d), on the smaller side of n and d."""
        n, d = centred.shape
        if n >= d:
            return cls.of_covariance(centred.T @ centred / n, mean)
        scale, varies = _scale(np.sqrt(np.square(centred).mean(axis=0)), mean)
        _, size, vectors = scipy.linalg.svd(centred / scale * varies, full_matrices=False, check_finite=False)
        kept = size > max(float(size[0]), 1e-300) * max(n, d) * _EPS
        return cls(np.square(size[kept]) / n, vectors[kept], scale)

    @classmethod
    def of_covariance(cls, covariance: np.ndarray, mean: np.ndarray) -> Spread:
        """From Σ_XX (d, d)."""
        scale, varies = _scale(np.sqrt(np.diag(covariance)), mean)
        correlation = covariance / scale / scale[:, None] * varies * varies[:, None]
        values, vectors = scipy.linalg.eigh(correlation, driver="evd", check_finite=False)
        # Ten times the rounding of one product: a stream adds up many.
        kept = values > max(float(values[-1]), 1e-300) * len(values) * _EPS * 10
        return cls(values[kept], vectors[:, kept].T, scale)

    def factors(self, cross: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The factors (k, d), (k, d) of W⁺PW, from Σ_XZ (d, m) and Σ_ZZ (m, m)."""
        # Whitened on both sides the singular values are canonical correlations, so that "none" has a scale of its
        # own; one-hot columns add up to 1, and the direction in which they do is left out with the null space.
        scale, _ = _scale(np.sqrt(np.diag(targets)), np.zeros(len(targets)))
        values, vectors = np.linalg.eigh(targets / scale / scale[:, None])
        kept = values > max(float(values[-1]), 1e-300) * len(values) * _EPS * 100
        whitened = self.whiten @ (cross / scale) @ (vectors[:, kept] / np.sqrt(values[kept]))
        U, correlations, _ = np.linalg.svd(whitened, full_matrices=False)
        U = U[:, correlations > _UNCORRELATED]
        return U.T @ self.root, U.T @ self.whiten


def _scale(spread: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spread itself, and 1 where a feature is constant but for rounding; and which ones are not."""
    varies = spread > 100 * _EPS * np.abs(mean)
    return np.where(varies, spread, 1.0), varies


def _to_numpy(values: object) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        # numpy knows no bfloat16.
        values = values.detach().to("cpu", torch.float64 if values.is_floating_point() else values.dtype).numpy()
    return np.asarray(values)


def as_rows(X: object, d: int | None = None) -> np.ndarray:
    """(n, d) float64 of finite activations, or a CausalError."""
    rows = _to_numpy(X).astype(np.float64)
    if rows.ndim != 2 or not len(rows) or (d is not None and rows.shape[1] != d):
        raise CausalError(f"got activations of shape {rows.shape}; expected (n, {'d' if d is None else d}), n ≥ 1.")
    if not np.isfinite(rows).all():
        raise CausalError("the activations hold a NaN or an infinity; leave those rows out.")
    return rows


def targets_of(y: object, n: int, kind: str | None, *, varying: bool = True) -> np.ndarray:
    """(n, m) float64: one-hot classes, or columns of numbers; see `leace` for `kind`."""
    values = _to_numpy(y)
    if kind not in (None, "classes", "continuous"):
        raise CausalError(f"kind is {kind!r}; expected 'classes', 'continuous', or None to go by the type of y.")
    if values.ndim not in (1, 2) or len(values) != n:
        raise CausalError(f"got targets of shape {values.shape} for {n} rows; expected (n,) or (n, m).")
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise CausalError("the targets hold a NaN or an infinity; leave those rows out.")
    if kind == "classes" or (kind is None and values.ndim == 1 and not np.issubdtype(values.dtype, np.floating)):
        if values.ndim != 1:
            raise CausalError(f"got classes of shape {values.shape}; expected one label a row (n,).")
        names, codes = np.unique(values, return_inverse=True)
        if varying and len(names) < 2:
            raise CausalError(f"every row is of class {names[0]!s}; expected two classes or more to tell apart.")
        return np.eye(len(names))[codes]
    Z = values.astype(np.float64).reshape(n, -1)
    if varying and not (Z[:1] != Z).any():
        raise CausalError("the targets do not vary; expected numbers that differ, or there is nothing to erase.")
    return Z
