"""Draws the animated picture of the READMEs, 20 seconds in which a word of a reply is looked into, in both languages.

.venv/bin/python tools/animation.py        # takes a minute; needs chromium and the default model
"""

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page
from screenshots import EXPLAINED, ROOT, pages

WIDTH, HEIGHT = 960, 640
COLOURS = 64
READY = "() => !document.querySelector('.gg-view')?.hasAttribute('aria-busy')"
VIEWS = (("attention", "canvas", 3200), ("layers", ".gg-lens", 3000), ("influence", ".gg-most", 2600))
POINTER = """() => {
  const dot = document.createElement("div");
  dot.style.cssText = `position:fixed;width:22px;height:22px;margin:-11px 0 0 -11px;border-radius:50%;z-index:9999;
                       background:#e69f0099;border:2px solid #e69f00;pointer-events:none;left:50%;top:60%`;
  document.body.append(dot);
  window.pointAt = (x, y) => { dot.style.left = x + "px"; dot.style.top = y + "px"; };
}"""


class Film:
    """Frames of a page and how long each is seen, in milliseconds."""

    def __init__(self, page: Page) -> None:
        self.page, self.frames, self.times = page, list[Image.Image](), list[int]()

    def shoot(self, milliseconds: int) -> None:
        """One frame; one that is like the last makes that longer."""
        frame = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        if self.frames and frame.tobytes() == self.frames[-1].tobytes():
            self.times[-1] += milliseconds
        else:
            self.frames.append(frame)
            self.times.append(milliseconds)

    def click(self, on: Locator, wait: str = "") -> None:
        """The pointer goes there and clicks."""
        on.scroll_into_view_if_needed()
        box = on.bounding_box()
        assert box is not None
        self.page.evaluate("([x, y]) => pointAt(x, y)", [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        self.shoot(500)
        on.click()
        if wait:
            self.page.wait_for_selector(wait)
        self.page.wait_for_function(READY)
        self.page.wait_for_timeout(500)

    def save(self, path: Path) -> None:
        """As an animated GIF; all frames share one table of colours, so that nothing flickers."""
        sheet = Image.new("RGB", (WIDTH, HEIGHT * len(self.frames)))
        for number, frame in enumerate(self.frames):
            sheet.paste(frame, (0, HEIGHT * number))
        table = sheet.quantize(COLOURS, dither=Image.Dither.NONE)
        drawn = [frame.quantize(palette=table, dither=Image.Dither.NONE) for frame in self.frames]
        drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=self.times, loop=0, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    out = parser.parse_args().out
    with pages() as open_page:
        for language in ("en", "zh"):
            film = None
            while film is None:  # it is sampled, and does not always name the word
                page = open_page(language)
                page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
                film = look_inside(page)
            film.save(out / f"inside.{language}.gif")
            print(f"{language}: {len(film.frames)} frames, {sum(film.times) / 1000:.1f} s")


def look_inside(page: Page) -> Film | None:
    """A question, its answer, and the word Paris in it from every side; None where it is not there."""
    film = Film(page)
    page.evaluate(POINTER)
    film.shoot(700)
    field = page.locator(".gg-composer .gg-field")
    for end in range(4, len(EXPLAINED) + 4, 4):
        field.fill(EXPLAINED[:end])
        film.shoot(90)
    field.press("Enter")
    for _ in range(100):
        page.wait_for_timeout(60)
        film.shoot(110)
        if page.locator(".gg-assistant .gg-actions").count():
            break
    film.shoot(900)
    word = page.evaluate_handle("""() => {
      const body = document.querySelector(".gg-assistant .gg-body");
      const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
      for (let node; (node = walker.nextNode()); ) {
        const at = node.data.indexOf("Paris");
        if (at < 0) continue;
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + 5);
        const box = range.getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
      }
    }""").json_value()
    if word is None:
        return None
    page.evaluate("([x, y]) => pointAt(x, y)", word)
    film.shoot(800)
    page.mouse.click(*word)
    page.locator(".gg-tok[aria-selected=true]").wait_for()
    page.locator(".gg-view tbody tr").first.wait_for()
    page.wait_for_timeout(500)
    film.shoot(2700)
    for view, sign, seen in VIEWS:
        film.click(page.locator(f"#gg-tab-{view}"), f".gg-view {sign}")
        film.shoot(seen)
    film.click(page.locator("#gg-tab-choices"), ".gg-view tbody tr")
    film.shoot(400)
    other = page.locator(".gg-view tbody tr:not(.gg-now) button:not([disabled])")
    before = page.locator(".gg-assistant").count()
    film.click(other.first)
    page.locator(".gg-assistant .gg-actions").nth(before - 1).wait_for()
    page.wait_for_timeout(600)
    film.shoot(2200)
    return film


if __name__ == "__main__":
    main()
