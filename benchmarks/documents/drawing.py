"""Figures of matplotlib as SVG: one look, legible in light and dark, the same bytes every time."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

#: Colours by their use. Those of series are of Okabe and Ito, which the colour-blind can tell
#: apart; the lines and markers of series differ, too.
PAPER, INK, GRID = "#ffffff", "#1f2328", "#d1d9e0"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
#: What stands for a colour where the reader prefers dark; the others are the same in both.
DARK = {PAPER: "#0d1117", INK: "#f0f6fc", GRID: "#3d444d", BLUE: "#56b4e9"}

_WIDTH = 8.8
_LOOK = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that layout is the same everywhere
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.facecolor": PAPER,
    "legend.edgecolor": GRID,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "negserve",  # else ids are random
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


class Chart:
    """One figure with panels side by side.

    :ivar panels: the axes, from left to right
    :param title: what it shows
    :param machine: on what it was measured
    :param titles: of the panels
    :param height: in inches
    :param share_y: whether all panels have the vertical axis of the first
    """

    def __init__(
        self, title: str, machine: str, titles: list[str], *, height: float, share_y: bool = False
    ) -> None:
        self._title = title
        self._description = f"{title}. Panels: {'; '.join(titles)}. {machine}"
        self._figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        # The machine has a part of its own: a legend would be drawn over it.
        parts: Any = self._figure.subfigures(2, 1, height_ratios=(height - 0.3, 0.3))
        self._upper, lower = parts
        self._upper.suptitle(title, fontsize=11, fontweight="bold")
        lower.text(
            0.5, 0.5, textwrap.fill(machine, 150), fontsize=7.5, ha="center", va="center",
        )  # fmt: skip
        axes = self._upper.subplots(1, len(titles), sharey=share_y, squeeze=False)
        self.panels: list[Axes] = list(axes[0])
        for panel, name in zip(self.panels, titles, strict=True):
            panel.set_title(name)

    def legend(self, num_columns: int) -> None:
        """Name the series of all panels, below them."""
        named: dict[object, Any] = {}
        for panel in self.panels:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                named.setdefault(label, handle)
        self._upper.legend(
            named.values(), named.keys(), loc="outside lower center", ncols=num_columns
        )

    def svg(self) -> str:
        """Return the figure as SVG."""
        file = io.StringIO()
        self._figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        lines = (line.rstrip() for line in file.getvalue().splitlines())
        head, tail = "\n".join(lines).split("<defs>", 1)
        start = head.index("<svg ")
        words = f"<title>{escape(self._title)}</title>\n <desc>{escape(self._description)}</desc>"
        svg = f'<svg role="img" {head[start + len("<svg ") :]}'
        return f"{head[:start]}{svg}{words}\n {_style()}\n <defs>{tail}\n"


def _style() -> str:
    rules = "\n".join(
        f'   [style*="{use}: {light}"] {{ {use}: {dark} !important }}'
        for light, dark in DARK.items()
        for use in ("fill", "stroke")
    )
    return f"<style>\n  @media (prefers-color-scheme: dark) {{\n{rules}\n  }}\n </style>"


@contextmanager
def look() -> Iterator[None]:
    """Draw with the look of all charts in the block."""
    with mpl.rc_context({**mpl.rcParamsDefault, **_LOOK}):
        yield


def ticks_at(panel: Axes, values: Sequence[int]) -> None:
    """Make the horizontal axis logarithmic, with ticks at these values only."""
    panel.set_xscale("log")
    panel.set_xticks(values, [f"{value:,}" for value in values])
    panel.set_xticks([], minor=True)


def logarithmic(axis: XAxis | YAxis, unit: str = "", steps: Sequence[float] = (1.0,)) -> None:
    """Make an axis logarithmic, with ticks written out, at these multiples of powers of ten."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}{unit}"))
    axis.set_minor_formatter(NullFormatter())


class Series(NamedTuple):
    """How a series of points looks."""

    label: str
    colour: str
    line: str = "-"
    marker: str = "o"
    is_filled: bool = True

    def draw(self, panel: Axes, points: Sequence[tuple[float, float]]) -> None:
        """Draw points, if there are any."""
        if points:
            panel.plot(
                *zip(*sorted(points), strict=True), label=self.label, color=self.colour,
                linestyle=self.line, marker=self.marker, markeredgecolor=self.colour,
                markerfacecolor=self.colour if self.is_filled else "none",
            )  # fmt: skip
