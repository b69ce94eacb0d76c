"""In a real browser: nothing that the page draws runs, asks, or is read otherwise than the lists allow."""

from __future__ import annotations

from pathlib import Path

from html_walk import allowed_attributes, attacks, examples
from playwright.sync_api import Browser

from glassgpt.ui.allowed import TAGS
from glassgpt.ui.markdown import markdown_css, to_html

TRAP = """
window.caught = [];
for (const name of ['alert', 'prompt', 'confirm', 'open', 'print', 'fetch'])
    window[name] = (...words) => { window.caught.push(name + ': ' + words); };
for (const name of ['log', 'warn', 'error', 'info', 'debug'])
    console[name] = (...words) => { window.caught.push('console: ' + words); };
window.addEventListener('error', event => window.caught.push('error: ' + event.message), true);
"""
# Every element of the document as the browser has it, with the names of its attributes.
READ = """markup => {
    document.body.innerHTML = markup;
    const found = {};
    for (const element of document.body.querySelectorAll('*')) {
        const names = found[element.localName] ??= [];
        for (const attribute of element.attributes) if (!names.includes(attribute.name)) names.push(attribute.name);
        if (element.href && !/^(https?|mailto):/.test(element.href)) names.push('href to ' + element.href);
        if (element.localName !== 'a') element.dispatchEvent(new MouseEvent('click', {bubbles: true}));
        element.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
    }
    return found;
}"""
EXTRA = [
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{</math><img src=x onerror=alert(1)>}$",
    "$\\unicode{x3c}img src=x\\unicode{x3e}$",
    "![x](http://127.0.0.1:9/x.png)", "```html\n<script>alert(1)</script>\n```",
    "```<img src=x onerror=alert(1)>\nx\n```",
    "[x](http://a.b \"\\\" onmouseover=alert(1) \")", "<http://a.b/\"onmouseover=alert(1)>",
    "| <img src=x onerror=alert(1)> |\n|-|\n",
]  # fmt: skip


def test_nothing_runs_and_nothing_is_asked(browser: Browser, shared_data: Path):
    texts = attacks(shared_data) + [str(one["markdown"]) for one in examples(shared_data)] + EXTRA
    context = browser.new_context()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    page.add_init_script(TRAP)
    page.goto("about:blank")
    asked.clear()
    page.evaluate("() => document.head.innerHTML = ''")
    for at in range(0, len(texts), 100):
        for tag, names in page.evaluate(READ, "".join(map(to_html, texts[at : at + 100]))).items():
            assert tag in TAGS
            assert set(names) <= allowed_attributes(tag)
        page.wait_for_timeout(50)
    assert page.evaluate("window.caught") == []
    assert errors == []
    assert asked == []
    assert page.url == "about:blank"
    context.close()


def test_the_trap_catches(browser: Browser):
    """The same with markup that was not cleaned: otherwise the test above would prove nothing."""
    page = browser.new_page()
    page.add_init_script(TRAP)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("about:blank")
    page.evaluate(READ, "<img src='http://127.0.0.1:9/x' onerror=alert(1)><b onmouseover=console.log(2)>x</b>")
    page.wait_for_function("window.caught.length >= 2", timeout=5_000)
    assert any("127.0.0.1:9" in url for url in asked)
    page.close()


def test_formulas_and_code_are_drawn(browser: Browser):
    """The browser takes the formula for one, and the colours change with the dark."""
    page = browser.new_page()
    page.set_content(
        f"<style>{markdown_css()}</style><body>" + to_html("$$\\frac{a}{b}$$\n\n```python\ndef f(): 1\n```")
    )
    assert page.evaluate("document.querySelector('mfrac').namespaceURI").endswith("MathML")
    tall = page.evaluate("document.querySelector('math').getBoundingClientRect().height")
    assert tall > 25  # a fraction, not its letters in a row
    colour = "getComputedStyle(document.querySelector('.hl-k')).color"
    light = page.evaluate(colour)
    page.evaluate("document.body.className = 'body--dark'")
    assert page.evaluate(colour) != light
    page.close()
