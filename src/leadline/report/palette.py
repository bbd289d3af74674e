"""The report's colours: one name, one value for each theme; the style sheet and the figures both take them from here.

Text colours have a contrast of at least 4.5 against `ground` and `paper`, lines and marks at least 3. The subject
(the probe) is a saturated blue; what it is held against is muted, and every line also has its own dash or mark.
"""

from __future__ import annotations

__all__ = ["CONTROLS", "KINDS", "PALETTE", "TRANSFER", "colour", "dark_of", "style"]

# name: (light, dark)
PALETTE: dict[str, tuple[str, str]] = {
    "ground": ("#f5f7f9", "#0f151b"),
    "paper": ("#ffffff", "#161e26"),
    "sunken": ("#eef2f5", "#1c262f"),
    "ink": ("#14212c", "#e8eef3"),
    "ink-2": ("#43525f", "#b6c2cd"),
    "ink-3": ("#5b6a77", "#93a1ae"),
    "line": ("#dce3e9", "#2a3641"),
    "line-strong": ("#748492", "#64768a"),
    "accent": ("#14599b", "#7cb9f5"),
    "on-accent": ("#fefefe", "#0d141b"),
    "probe": ("#15599a", "#6db2f6"),
    "probe-band": ("rgba(21,89,154,0.17)", "rgba(109,178,246,0.20)"),
    "probe-tint": ("#e6f0f9", "#16293b"),
    "supported": ("#0a664e", "#5ecfab"),
    "supported-tint": ("#e5f4ee", "#11302a"),
    "refuted": ("#a92a1b", "#ff998a"),
    "refuted-tint": ("#fceae7", "#3a1b18"),
    "inconclusive": ("#7d5300", "#eebb5b"),
    "inconclusive-tint": ("#fdf2dd", "#332812"),
    "untested": ("#5a6976", "#94a2af"),
    "untested-tint": ("#eff2f4", "#1a232b"),
    "negative": ("#b04d08", "#f2a36d"),
    "negative-band": ("rgba(176,77,8,0.55)", "rgba(242,163,109,0.60)"),
    "positive-band": ("rgba(21,89,154,0.62)", "rgba(109,178,246,0.66)"),
    "null-band": ("rgba(91,106,119,0.20)", "rgba(147,161,174,0.22)"),
    "control-1": ("#8c3b62", "#e397ba"),
    "control-1-band": ("rgba(140,59,98,0.11)", "rgba(227,151,186,0.13)"),
    "control-2": ("#0b7066", "#58c6b7"),
    "control-2-band": ("rgba(11,112,102,0.11)", "rgba(88,198,183,0.13)"),
    "control-3": ("#935800", "#dfa656"),
    "control-3-band": ("rgba(147,88,0,0.11)", "rgba(223,166,86,0.13)"),
    "control-4": ("#65559a", "#b5a6e4"),
    "control-4-band": ("rgba(101,85,154,0.11)", "rgba(181,166,228,0.13)"),
    "control-5": ("#5c6a1a", "#b9c667"),
    "control-5-band": ("rgba(92,106,26,0.11)", "rgba(185,198,103,0.13)"),
    "attn": ("#7c3aa3", "#cb9bee"),
    "attn-band": ("rgba(124,58,163,0.12)", "rgba(203,155,238,0.15)"),
    "mlp": ("#a13f0d", "#f09c70"),
    "mlp-band": ("rgba(161,63,13,0.12)", "rgba(240,156,112,0.15)"),
    "mid": ("#0a6c54", "#58cba8"),
    "mid-band": ("rgba(10,108,84,0.12)", "rgba(88,203,168,0.15)"),
}

# How lines are told apart besides their colour: (colour, dash, mark).
KINDS: dict[str, tuple[str, str, str]] = {
    "stream": ("probe", "solid", "circle"),
    "resid_pre": ("mid", "dash", "diamond"),
    "resid_mid": ("mid", "dashdot", "diamond"),
    "attn_out": ("attn", "dash", "square"),
    "mlp_out": ("mlp", "dot", "triangle-up"),
    "mlp_hidden": ("mlp", "longdash", "triangle-down"),
    "head_out": ("attn", "solid", "x-thin-open"),
    "reference": ("ink-3", "dot", "line-ew"),
}
TRANSFER: tuple[tuple[str, str, str], ...] = (
    ("probe", "solid", "circle"),
    ("mid", "dash", "diamond"),
    ("mlp", "dashdot", "square"),
)
CONTROLS: tuple[tuple[str, str, str], ...] = (
    ("control-1", "dash", "circle-open"),
    ("control-2", "longdash", "square-open"),
    ("control-3", "dashdot", "diamond-open"),
    ("control-4", "dot", "triangle-up-open"),
    ("control-5", "longdashdot", "triangle-down-open"),
)


def colour(name: str) -> str:
    """The light theme's colour, in which figures are built."""
    return PALETTE[name][0]


def dark_of() -> dict[str, str]:
    """From each light colour to its dark one: how a built figure changes theme."""
    return dict(PALETTE.values())


def style() -> str:
    """The colours as CSS custom properties: by the system's preference, by the page's button, and light in print."""

    def block(index: int) -> str:
        return "".join(f"--{name}:{pair[index]};" for name, pair in PALETTE.items())

    return (
        f":root{{color-scheme:light;{block(0)}}}"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{block(1)}}}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{block(1)}}}"
        f"@media print{{:root,:root[data-theme],:root:not([data-theme=light]){{color-scheme:light;{block(0)}}}}}"
    )
