"""The pages in Chromium: on a phone and a desk, light and dark, without a script."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from negserve import Client
from tests.support.programs.browser import Browser, browser
from tests.support.scraping import Scraper, scraped_server

SCRIPT = "<script>alert(1)</script>"
SIZES = {"phone": (390, 844), "desk": (1280, 800)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def scraper(page: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraper]:
    folder = tmp_path_factory.mktemp("pages")
    long = "x" * 150
    (folder / "g.tsv").write_text(f"{SCRIPT}\tr\t{long}\n{long}\tr\tb\n")
    options = ("--status-page", "--dataset", "world", "--dataset", f"g={folder / 'g.tsv'}")
    with (
        scraped_server(folder / "log", *options) as scraper,
        Client(scraper.server.target) as client,
    ):
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=500)
        is_over = threading.Event()

        def work() -> None:
            while not is_over.wait(0.05):
                sampler.sample([[1, 2, 3]], 0)

        # So that the page has rates and latencies to show.
        with ThreadPoolExecutor(1) as threads:
            working = threads.submit(work)
            try:
                yield scraper
            finally:
                is_over.set()
                working.result()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_and_can_be_read(
    page: Browser, scraper: Scraper, size: str, scheme: Literal["light", "dark"], tmp_path: Path
):
    width, height = SIZES[size]
    page.emulate(width, height, scheme)
    folder = Path(os.environ.get("NEGSERVE_SCREENSHOTS", tmp_path))
    base = scraper.url.removesuffix("/metrics")
    query = f"dataset=g&head={SCRIPT}&relation=r&tail=b&filter=mask&k=20"
    for name, path in (
        ("status", "/?pause=yes"), ("playground", f"/playground?{query}"), ("refused", "/?x=1"),
    ):  # fmt: skip
        page.open(base + path)
        page.screenshot(folder / f"{name}-{size}-{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        assert page.evaluate(_CONTRAST) >= 4.5, "WCAG AA"
    policy = [each for each in page.messages if "Content Security Policy" in each]
    assert not policy


def test_a_form_draws_without_a_script(page: Browser, scraper: Scraper):
    page.emulate(390, 844, "light")
    page.open(scraper.url.removesuffix("metrics") + "playground")
    page.click("button.main")
    assert page.evaluate("document.querySelectorAll('#negatives li').length") == 10
    assert page.evaluate("document.scripts.length") == 0


#: The least contrast of the colours of text and what is behind it.
_CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = rgb(color).map((v) => v / 255).map(
      (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  let least = 21;
  for (const element of document.querySelectorAll("main *, header *")) {
    const has_text = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!has_text || !element.offsetParent || element.tagName === "OPTION") continue;
    const pair = [light(getComputedStyle(element).color), light(behind(element))];
    least = Math.min(least, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
  }
  return least;
})()
"""
