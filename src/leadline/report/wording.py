"""How the report writes figures and names: one house style for the page, the figures and the Markdown."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from leadline.study.results import Estimate

__all__ = [
    "DASH",
    "Quantity",
    "bytes_text",
    "count",
    "duration",
    "inside",
    "joined",
    "metric_title",
    "number",
    "p_text",
    "percent",
    "plain",
    "plural",
    "quantity",
    "quoted",
    "sentence_start",
    "shorten",
    "visible",
]

DASH = "–"
MINUS = "−"

_METRICS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "centred_accuracy": "centred accuracy",
    "f1": "F1",
    "r2": "R²",
    "spearman": "Spearman ρ",
    "concordance": "concordance",
    "adjacent_accuracy": "accuracy within one level",
    "kappa": "weighted κ",
    "pair_accuracy": "pair accuracy",
    "mae": "mean absolute error",
    "rmse": "RMSE",
}
# Control characters, lone surrogates and the marks that reorder what stands around them; the joiners of emoji stay.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Metrics that cannot leave [0, 1]; an axis of theirs does not either.
BOUNDED = frozenset(
    {
        "auroc",
        "accuracy",
        "balanced_accuracy",
        "centred_accuracy",
        "f1",
        "concordance",
        "adjacent_accuracy",
        "pair_accuracy",
    }
)


@dataclass(frozen=True)
class Quantity:
    """A figure as it is printed, with what it is printed from.

    `text` is the value (`0.863`), `interval` its 95% interval (`[0.841, 0.884]`) or empty; `DASH` and empty when null.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = DASH
    interval: str = ""

    @property
    def full(self) -> str:
        """Value and interval in one string, as in `0.863 [0.841, 0.884]`."""
        return f"{self.text} {self.interval}" if self.interval else self.text


def number(value: float | None, *, digits: int = 3, sign: bool = False) -> str:
    """A figure with a true minus: `0.863`, `−0.120`, `1.000`, `+0.041`."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size >= 1e6:
        text = f"{size:.3g}"
    elif size >= 100:
        text = f"{size:,.1f}"
    else:
        text = f"{size:.{digits}f}"
    zero = not text.strip(".0")
    return (MINUS if value < 0 and not zero else "+" if sign and not zero else "") + text


def quantity(estimate: Estimate | None, *, sign: bool = False) -> Quantity:
    """Word an estimate; None and null values give a dash."""
    if estimate is None or estimate.value is None or not math.isfinite(estimate.value):
        return Quantity(None)
    low, high = estimate.low, estimate.high
    interval = ""
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        interval = f"[{number(low, sign=sign)},\N{NO-BREAK SPACE}{number(high, sign=sign)}]"
    else:
        low = high = None
    return Quantity(estimate.value, low, high, number(estimate.value, sign=sign), interval)


def p_text(p: float | None) -> str:
    """A p-value: three decimals, or two significant digits below 0.0005."""
    if p is None or not math.isfinite(p):
        return DASH
    if p and p < 0.0005:
        mantissa, exponent = f"{p:.1e}".split("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return number(p)


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float | None, *, sign: bool = False) -> str:
    """A share in percent, with a digit after the point below ten: `43%`, `+2.5%`, `−12%`, and `×1,200` far above."""
    if share is None or not math.isfinite(share):
        return DASH
    if abs(share) >= 10:
        return f"×{1 + share:,.0f}" if sign and share < 1e6 else f"×{1 + share:.1e}" if sign else f"{share:,.0%}"
    text = f"{abs(share):.1%}" if abs(share) < 0.0995 else f"{abs(share):.0%}"
    zero = not text.strip("%.0")
    return (MINUS if share < 0 and not zero else "+" if sign and not zero else "") + text


def plain_number(value: float | None) -> str:
    """A parameter such as a penalty, in as few digits as it needs: `0.01`, `1`, `1e-05`."""
    return DASH if value is None else f"{value:.4g}"


def count(value: int | None) -> str:
    """A whole number with thousands separated: `1,496`."""
    return DASH if value is None else f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """`1 row`, `1,496 rows`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`0.9 s`, `31.8 s`, `1 min 23 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def bytes_text(size: int | None) -> str:
    """Memory in GiB or MiB."""
    if size is None:
        return DASH
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def parameters_text(size: int) -> str:
    """The size of a model: `135M`, `1.24B`."""
    if size >= 1e9:
        return f"{size / 1e9:.2f}B"
    return f"{size / 1e6:.0f}M" if size >= 1e7 else f"{size / 1e6:.2g}M" if size >= 1e5 else f"{size:,}"


def metric_title(key: str) -> str:
    """The name of a metric for a person; `r2.latitude` becomes `R² (latitude)`."""
    if key in _METRICS:
        return _METRICS[key]
    head, _, tail = re.sub(r"[:\[\]/]", ".", key).partition(".")
    if head in _METRICS and tail:
        return f"{_METRICS[head]} ({tail.strip('.')})"
    return key.replace("_", " ")


def chance_of(key: str, primary: str, chance: float, n_classes: int = 2) -> float | None:
    """The level of a probe that knows nothing, for the metrics that have one whatever the balance of the classes."""
    if key == primary:
        return chance
    if key == "balanced_accuracy":
        return 1 / n_classes
    if key in ("auroc", "concordance", "pair_accuracy"):
        return 0.5
    if key.split(".")[0].split(":")[0] in ("r2", "spearman", "kappa"):
        return 0.0
    return None


def shorten(text: str, limit: int) -> str:
    """Cut to `limit` characters, on one line, with an ellipsis; control and bidirectional marks are dropped."""
    flat = " ".join(_UNSEEN.sub("", text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def visible(token: str, *, spaces: bool = True) -> str:
    """A token with what cannot be seen made visible: `␣` for a space, `⏎` for a new line, `⇥` for a tab, `∅` for none.

    With `spaces=False`, as for a sentence, only those at its ends are marked.
    """
    text = token.replace("\r\n", "⏎").replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥")
    if spaces:
        text = text.replace(" ", "␣")
    else:
        inner = text.strip(" ")
        start = len(text) - len(text.lstrip(" "))
        text = "␣" * start + inner + "␣" * (len(text) - start - len(inner))
    return text or "∅"


def quoted(name: str, limit: int = 60) -> str:
    """A name from the data inside a sentence: in curly quotes, on one line, cut to `limit` characters."""
    return f"“{shorten(name, limit)}”"


def plain(text: str, limit: int = 40) -> str:
    """Text for a Plotly label or hover box, which would read HTML tags and entities; here they stay text."""
    return shorten(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def joined(parts: list[str] | tuple[str, ...], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def inside(title: str) -> str:
    """A title inside a sentence: `Bag of words` becomes `bag of words`, `TF-IDF` stays."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def sentence_start(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
