"""The charts in ``docs/charts`` are what the results give, and can be read by everybody."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import charts, tables
from benchmarks.documents import drawing
from benchmarks.support.measuring import RESULTS
from tests.support.graphs import REPOSITORY

NAMES = {chart: file for file, (chart, _) in charts.MAKERS.items()}
_UNITS = {
    "rate": ["negatives per second", "k, negatives per positive"],
    "layers": ["ns of processor time per negative"],
    "streams": ["millions of negatives per second", "ms", "streams"],
    "scale": ["bytes per triple", "processor seconds", "millions of negatives per second"],
}
_TEXT = "{http://www.w3.org/2000/svg}text"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    charts.main(RESULTS, folder)
    return folder


def texts_of(svg: str) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ElementTree.fromstring(svg).iter(_TEXT)]


def test_the_charts_are_what_the_results_say(drawn: Path):
    assert {path.stem for path in drawn.iterdir()} == set(NAMES)
    assert {path.name for path in charts.FOLDER.iterdir()} == {
        path.name for path in drawn.iterdir()
    }
    for path in drawn.iterdir():
        committed = (charts.FOLDER / path.name).read_text()
        assert path.read_text() == committed, "run python -m benchmarks.charts --write"


def test_a_rerun_gives_the_same_bytes(drawn: Path, tmp_path: Path):
    charts.main(RESULTS, tmp_path)
    for path in drawn.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_has_units_and_the_machine_as_text(name: str, drawn: Path):
    texts = texts_of((drawn / f"{name}.svg").read_text())
    content = json.loads((RESULTS / f"{NAMES[name]}.json").read_text())
    whole = " ".join(texts)
    assert content["hardware"] in whole
    for package, version in content["versions"].items():
        assert f"{package} {version}" in whole
    assert set(_UNITS[name]) <= set(texts)


@pytest.mark.parametrize("name", NAMES)
def test_each_colour_has_a_dark_variant_or_is_legible_in_both(name: str, drawn: Path):
    svg = (drawn / f"{name}.svg").read_text()
    drawing_of, style = svg[svg.index("</style>") :], svg[: svg.index("</style>")]
    assert "@media (prefers-color-scheme: dark)" in style
    for use, colour in set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", drawing_of)):
        dark = drawing.DARK.get(colour, colour)
        assert colour == dark or f'[style*="{use}: {colour}"] {{ {use}: {dark} !important' in style
        if colour in {drawing.PAPER, drawing.GRID}:
            continue
        least = 7 if colour == drawing.INK else 3  # WCAG 2: text, and parts of graphics
        assert contrast(colour, drawing.PAPER) >= least
        assert contrast(dark, drawing.DARK[drawing.PAPER]) >= least


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("series", charts._SYSTEMS.values(), ids=lambda series: series.label)
def test_each_series_has_contrast_in_both(series: drawing.Series):
    dark = drawing.DARK.get(series.colour, series.colour)
    assert contrast(series.colour, drawing.PAPER) >= 3
    assert contrast(dark, drawing.DARK[drawing.PAPER]) >= 3


def test_series_differ_without_colour():
    looks = [(series.line, series.marker, series.is_filled) for series in charts._SYSTEMS.values()]
    assert len(set(looks)) == len(looks)


def test_documents_show_the_charts():
    shown = {
        document: set(re.findall(r"!\[[^\]]+\]\(([^)]+\.svg)\)", document.read_text()))
        for document in tables.DOCUMENTS
    }
    files = {
        document.name: {(document.parent / link).resolve() for link in links}
        for document, links in shown.items()
    }
    everything = {(charts.FOLDER / f"{name}.svg").resolve() for name in NAMES}
    assert files["benchmarks.md"] == everything
    assert files["README.md"] == {(REPOSITORY / "docs" / "charts" / "rate.svg").resolve()}


def test_rows_of_other_samplers_are_drawn_and_missing_ones_left_out(tmp_path: Path):
    def change(content: dict[str, Any]) -> None:
        rows = [row for row in content["rows"] if not row["system"].startswith("pykeen")]
        model = {**rows[0], "system": "numpy", "sampler": "basic", "filter": "none"}
        rows += [{**model, "k": k} for k in (1, 64)]
        rows.append({**model, "k": 1000, "negatives_per_second": None})
        content["rows"] = rows

    results, folder = tmp_path / "results", tmp_path / "charts"
    results.mkdir()
    content = json.loads((RESULTS / "engine.json").read_text())
    change(content)
    (results / "engine.json").write_text(json.dumps(content))
    shutil.copy(RESULTS / "layers.json", results)
    charts.main(results, folder)
    assert {path.stem for path in folder.iterdir()} == {"rate", "layers"}
    texts = texts_of((folder / "rate.svg").read_text())
    assert "NumPy, random integers" in texts
    assert not [text for text in texts if text.startswith("pykeen ") and "filter" in text]
