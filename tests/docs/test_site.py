"""`make docs` makes both languages without a warning; nothing that a browser loads lies elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pages
import pytest

pytestmark = pytest.mark.slow

BUILD = pages.ROOT / "tools" / "docs" / "build.py"
# Attributes whose address a browser loads by itself; those of a link wait for a click.
LOADS = {"src", "srcset", "poster", "data", "background", "xlink:href"}
LOADED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest", "preconnect", "dns-prefetch"}


class Walk(HTMLParser):
    """What a page loads, where it leads, which anchors it has, and its language."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.language = ""
        self.styles: list[str] = []
        self.alternates: list[str] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in attrs}
        self.anchors |= {have[name] for name in ("id", "name") if name in have}
        self._within = tag
        if tag == "html":
            self.language = have.get("lang", "")
        if tag == "a":
            self.leads.append(have.get("href", ""))
            self.alternates += [have["href"]] if have.get("rel") == "alternate" else []
        elif tag in ("use", "image") or (tag == "link" and set(have.get("rel", "").split()) & LOADED_LINKS):
            self.loads.append(have.get("href", ""))
        for name in LOADS & set(have):
            self.loads += (
                [piece.split()[0] for piece in have[name].split(",") if piece.split()]
                if name == "srcset"
                else [have[name]]
            )
        if "style" in have:
            self.styles.append(have["style"])

    def handle_data(self, data: str) -> None:
        if self._within == "style":
            self.styles.append(data)


def css_loads(text: str) -> Iterator[str]:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    yield from (found[1] for found in re.finditer(r"url\(\s*['\"]?(.*?)['\"]?\s*\)", text))
    yield from (found[1] for found in re.finditer(r"@import\s+['\"](.*?)['\"]", text))


def elsewhere(address: str) -> bool:
    return not address.startswith("data:") and (bool(urlsplit(address).scheme) or address.startswith("//"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "made"
    done = subprocess.run([sys.executable, str(BUILD), str(folder)], capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "warning" not in said.lower(), said
    return folder


@pytest.fixture(scope="module")
def walked(site) -> dict[str, Walk]:
    """Each page of the site by its place in it."""
    found = sorted(site.rglob("*.html"))
    return {file.relative_to(site).as_posix(): Walk(file.read_text(encoding="utf-8")) for file in found}


def test_every_page_of_the_repository_is_in_the_site_and_knows_its_language(walked):
    assert len([place for place in walked if place.startswith("en/")]) == len(
        [page for page in pages.PAGES if not pages.is_chinese(page)]
    ) + 1  # and the search  # fmt: skip
    assert len([place for place in walked if place.startswith("zh/")]) == len(pages.pairs()) + 1
    for place, page in walked.items():
        assert page.language == ("zh-CN" if place.startswith("zh/") else "en"), place


def test_nothing_that_a_browser_loads_lies_on_another_host(site, walked):
    for place, page in walked.items():
        assert [one for one in page.loads if elsewhere(one)] == [], place
        assert [one for text in page.styles for one in css_loads(text) if elsewhere(one)] == [], place
    for style in site.rglob("*.css"):
        assert [one for one in css_loads(style.read_text(encoding="utf-8")) if elsewhere(one)] == [], style.name
    for picture in site.rglob("*.svg"):
        walk = Walk(picture.read_text(encoding="utf-8"))
        assert [one for one in walk.loads if elsewhere(one)] == [], picture.name


def test_no_script_of_the_site_asks_another_host(site):
    """An address in a script is the name of a kind of XML. (The index and the translations are words alone.)"""
    for script in site.rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        if script.name in ("searchindex.js", "translations.js"):
            continue
        found = set(re.findall(r"""["'`](https?://[^"'`]+|//[\w.-]+\.\w{2,}[^"'`]*)["'`]""", text))
        assert {one for one in found if "www.w3.org" not in one} == set(), script.name


def test_what_a_page_loads_and_where_it_leads_is_there(site, walked):
    for place, page in walked.items():
        for address in [*page.loads, *page.leads]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (site / place).parent / unquote(parts.path) if parts.path else site / place
            assert target.is_file(), f"{place}: {address}"
            inside = target.resolve().relative_to(site.resolve()).as_posix()
            if parts.fragment and inside in walked:
                assert unquote(parts.fragment) in walked[inside].anchors, f"{place}: {address}"


def test_a_page_and_its_translation_lead_to_each_other(walked):
    both = [place.removeprefix("zh/") for place in walked if place.startswith("zh/")]
    assert len(both) >= len(pages.pairs())
    for place in both:
        for here, there in (("en", "zh"), ("zh", "en")):
            up = "../" * (place.count("/") + 1)
            assert walked[f"{here}/{place}"].alternates == [f"{up}{there}/{place}"]


def test_lines_of_a_chinese_paragraph_are_joined_without_a_blank(site):
    wide = "[\u3001\u3002\u3400-\u9fff\uff00-\uffef]"
    for file in (site / "zh").rglob("*.html"):
        text = re.sub(r"<pre[^>]*>.*?</pre>", "", file.read_text(encoding="utf-8"), flags=re.S)
        assert re.findall(f".{{9}}{wide}\n{wide}.{{9}}", text) == [], file.name


def test_search_finds_words_in_both_languages(site):
    """The index holds them as the page looks for them: English by its stem, Chinese by pairs of characters."""

    def terms(language: str) -> dict[str, object]:
        text = (site / language / "searchindex.js").read_text(encoding="utf-8")
        return json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", text, re.S)[1])["terms"]  # type: ignore[index]

    assert {"teapot", "token"} <= set(terms("en"))
    assert {"密钥", "词元", "token"} <= set(terms("zh"))


@pytest.fixture(scope="module")
def browser():
    chromium = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
    if chromium is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def test_a_browser_opens_the_site_from_disk_searches_it_and_asks_no_host(site, browser):
    asked, wrong = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((site / "index.html").as_uri())
    page.wait_for_url("**/en/index.html")
    for language, question, answer in (("en", "teapots", "assistant.html"), ("zh", "流式输出", "serving.html")):
        page.goto(f"{(site / language / 'search.html').as_uri()}?q={question}")
        page.wait_for_selector("#search-results li a", timeout=10_000)
        hrefs = [link.get_attribute("href") for link in page.query_selector_all("#search-results li a")]
        assert any(str(href).partition("?")[0].endswith(answer) for href in hrefs), (question, hrefs)
    page.click(".language-switch a")
    page.wait_for_url("**/en/search.html*")
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert wrong == []


@pytest.mark.parametrize(("scheme", "place"), [("light", "en/serving.html"), ("dark", "zh/deploy.html")])
def test_the_site_is_for_everyone(site, browser, scheme, place):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(color_scheme=scheme)
    page.goto((site / place).as_uri())
    found = Axe().run(page).response["violations"]
    page.close()
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


MISTAKES = {
    "formula": ("The $\\nosuchcommand{x}$.", "nosuchcommand"),
    "surrounding": ("$$\n\\begin{aligned} a &= b \\end{aligned}\n$$", "aligned"),
    "heading": ("[x](#no-such-heading)", "no-such-heading"),
    "block": ("```{nosuch}\n```", "nosuch"),
}


def built(folder: Path, pages_of: dict[str, str]) -> tuple[int, str]:
    """`build.py` on a repository of these pages."""
    for file, text in ({"README.md": "# One\n", "README.zh.md": "# 一\n"} | pages_of).items():
        (folder / "work" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "work" / file).write_text(text, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import build; "
        "build.ROOT = Path('work'); sys.argv[1:] = ['made']; sys.exit(build.main())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(BUILD.parent)], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_page_with_a_mistake_is_no_site_and_all_mistakes_are_told(tmp_path):
    code, said = built(tmp_path, {f"docs/{name}.md": f"# {name}\n\n{text}\n" for name, (text, _) in MISTAKES.items()})
    assert code == 1 and not (tmp_path / "made").exists()
    for name, (_, message) in MISTAKES.items():
        (line,) = [line for line in said.splitlines() if f"{name}.md" in line]
        assert message in line


def test_a_link_to_a_file_that_is_not_there_is_told_before_anything_is_built(tmp_path):
    code, said = built(tmp_path, {"docs/x.md": "# x\n\n[y](missing.md)\n"})
    assert code == 1 and said.strip() == "docs/x.md: missing.md leads to no file"


def test_a_folder_that_is_no_site_is_left_alone(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").write_text("mine")
    code, said = built(tmp_path, {})
    assert code == 1 and "no site" in said and (tmp_path / "made" / "mine.txt").read_text() == "mine"
