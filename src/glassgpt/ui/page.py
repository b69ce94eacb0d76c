"""The page as an app: its two languages, what they have in common, and the frame around the tabs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from nicegui import app as library
from nicegui import background_tasks, ui

from glassgpt.core.errors import GlassError
from glassgpt.core.words import LANGUAGES, Sentence
from glassgpt.server.door import language_of
from glassgpt.server.problems import Problem, problem_of
from glassgpt.ui.build_page import BuildPage
from glassgpt.ui.chat_page import ChatPage
from glassgpt.ui.desk import Desk
from glassgpt.ui.inside_page import InsidePage
from glassgpt.ui.insight import Reply
from glassgpt.ui.knowledge_page import KnowledgePage
from glassgpt.ui.markdown import markdown_css
from glassgpt.ui.window import Window

HERE = Path(__file__).parent
LANGUAGE_COOKIE, THEME_COOKIE = "glassgpt-language", "glassgpt-theme"
TABS = {
    "chat": Sentence("Chat"),
    "knowledge": Sentence("Knowledge"),
    "build": Sentence("Build"),
    "inside": Sentence("Inside"),
}
_THEMES: dict[str, bool | None] = {"light": False, "dark": True}
_CODES: dict[str, Any] = {"en": "en-US", "zh": "zh-CN"}  # as the library calls them


def make_page(desk: Desk) -> FastAPI:
    """The page over a desk, which it closes at its end. There can be one in a program: the library has one app."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    style = (HERE / "page.css").read_text(encoding="utf-8") + markdown_css()
    mark = hashlib.sha256(style.encode()).hexdigest()[:12]

    @app.get("/glassgpt.css")
    async def css() -> Response:
        return Response(style, media_type="text/css",
                        headers={"cache-control": "private, max-age=31536000, immutable"})  # fmt: skip

    @app.get("/builds/{name}/report.html")
    async def report(name: str) -> Response:
        path = desk.builds.report_path(name)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, media_type="text/html; charset=utf-8")

    @app.get("/inside/picture")
    async def drawn(message: str, view: str, place: int, layer: int = -1, head: int = -1, off: str = "",
                    kind: str = "svg", language: str = "en", tuned: bool = False) -> Response:  # fmt: skip
        language = language if language in LANGUAGES else "en"

        def draw(reply: Reply) -> tuple[bytes, str]:
            from glassgpt.ui.inside_picture import TYPES, picture

            parts = off.split(",") if off else []
            return picture(reply, view, kind, place, layer, head, parts, language, tuned), TYPES[kind]

        found = await desk.insight.ask(message, lambda name: desk.options(name, language), draw)
        if found is None:
            raise Problem(503, "the server ends")
        return Response(found[0], media_type=found[1], headers={"content-security-policy": "sandbox"})

    async def refused(request: Request, error: Exception) -> Response:
        language = request.query_params.get("language", "")
        if language not in LANGUAGES:
            language = language_of(request.headers.get("accept-language", ""))
        problem = problem_of(error)
        told = error.line(language) if isinstance(error, GlassError) else problem.message
        return PlainTextResponse(told, problem.status, problem.headers)

    app.add_exception_handler(GlassError, refused)
    app.add_exception_handler(Problem, refused)

    @app.get("/")
    async def start(request: Request) -> Response:
        language = request.cookies.get(LANGUAGE_COOKIE, "")
        if language not in LANGUAGES:
            language = language_of(request.headers.get("accept-language", ""))
        return RedirectResponse(f"/{language}", 303)

    def at(language: str) -> Callable[[Request], None]:
        def build(request: Request) -> None:
            ui.add_head_html(f'<link rel="stylesheet" href="/glassgpt.css?{mark}">')
            _frame(Window(desk, language), request)

        return build

    for language in LANGUAGES:
        ui.page(f"/{language}", title="glassgpt", language=_CODES[language], dark=None)(at(language))
    library.on_shutdown(desk.close)
    ui.run_with(app, mount_path="/", tailwind=False, show_welcome_message=False, reconnect_timeout=10.0,
                favicon=HERE / "icon.svg", title="glassgpt")  # fmt: skip
    return app


def _frame(window: Window, request: Request) -> None:
    """Header, tabs and what they show."""
    language, words = window.language, window.words
    ui.dark_mode(_THEMES.get(request.cookies.get(THEME_COOKIE, "")))
    ui.colors(primary="#0b57d0")
    tab = request.query_params.get("tab", "chat")
    with ui.header(bordered=False).classes("gg-header").props(f'aria-label="{words("The page")}"'):
        menu = window.icon("menu", words("Conversations"))
        ui.html("glassgpt", tag="h1", sanitize=False).classes("gg-name")
        with ui.tabs().props("dense no-caps mobile-arrows") as tabs:
            for name, label in TABS.items():
                ui.tab(name, label=label.text(language))
        tabs.set_value(tab if tab in TABS else "chat")
        ui.element("div").classes("gg-space")
        window.icon("contrast", words("Light or dark"), on_click="toggleTheme()")
        other = "en" if language == "zh" else "zh"
        own = "中文" if other == "zh" else "English"
        ui.html(f'<a class="gg-link" lang="{other}" href="/{other}" data-language="{other}">{own}</a>', sanitize=False)
    window.keep_address({n: v for n, v in request.query_params.items() if n in ("chat", "tab", "inside", "place")})

    kept = request.query_params.get("inside")  # what this window looked into before it was loaded anew

    def look(message: str, word: str, number: int, before: str, after: str) -> None:
        nonlocal kept
        kept = None
        tabs.set_value("inside")
        inside.open_word(message, word, number, before, after)

    def talk(conversation: str) -> None:
        tabs.set_value("chat")
        background_tasks.create(chat.open(conversation))

    chat = ChatPage(window, request.query_params.get("chat"), look)
    inside = InsidePage(window, talk)

    def talk_to(model: str) -> None:
        chat.choose_model(model)
        tabs.set_value("chat")

    # All are there from the start, so that what happens in one while another is seen is not lost.
    panels: dict[str, ui.element] = {}
    with ui.element("div").classes("gg-all"):
        for name, label in TABS.items():
            panels[name] = ui.element("section").classes("gg-main-page gg-panel")
            panels[name].props.update({"aria-label": label.text(language)})
    with panels["chat"]:
        chat.build()
    with panels["knowledge"]:
        KnowledgePage(window).build()
    with panels["build"]:
        BuildPage(window).build(talk_to)
    with panels["inside"]:
        inside.build()

    def picked(narrow: bool) -> None:
        tabs.set_value("chat")
        if narrow:
            drawer.hide()

    def show(name: str) -> None:
        nonlocal kept
        window.seen = name
        if name == "inside" and kept:  # only now: a model is opened for it
            place = request.query_params.get("place", "")
            inside.open_place(kept, int(place) if place.isascii() and place.isdigit() and len(place) < 9 else None)
            kept = None
        for one, panel in panels.items():
            panel.visible = one == name
        window.address(tab=None if name == "chat" else name)

    with ui.left_drawer(value=None, elevated=False).props("width=280 breakpoint=900").classes("q-pa-none") as drawer:
        chat.build_list(picked)
    menu.on("click", drawer.toggle)
    tabs.on_value_change(lambda e: show(str(e.value)))
    show(str(tabs.value))
    ui.add_body_html(_SCRIPT)


# Remembers the language and the theme that were chosen.
_SCRIPT = f"""<script>
function remember(name, value) {{ document.cookie = name + "=" + value + "; path=/; max-age=31536000; samesite=lax"; }}
document.addEventListener("click", (event) => {{
  const link = event.target.closest && event.target.closest("[data-language]");
  if (!link) return;
  event.preventDefault();
  remember("{LANGUAGE_COOKIE}", link.dataset.language);
  location.href = link.getAttribute("href") + location.search;
}});
function giveFiles(place, files) {{
  if (files.length) getElement(Number(place.dataset.upload)).$refs.qRef.addFiles(files);
}}
document.addEventListener("change", (event) => {{
  const place = event.target.closest && event.target.closest(".gg-drop");
  if (!place || !event.target.files) return;
  giveFiles(place, Array.from(event.target.files));
  event.target.value = "";
}});
for (const name of ["dragover", "dragleave", "drop"]) {{
  document.addEventListener(name, (event) => {{
    event.preventDefault();  // a file beside the place must not take the page's
    const place = event.target.closest && event.target.closest(".gg-drop");
    if (!place) return;
    place.classList.toggle("gg-over-it", name === "dragover");
    if (name === "drop") giveFiles(place, Array.from(event.dataTransfer.files));
  }});
}}
function toggleTheme() {{
  const dark = !document.body.classList.contains("body--dark");
  remember("{THEME_COOKIE}", dark ? "dark" : "light");
  Quasar.Dark.set(dark);
}}
</script>"""
