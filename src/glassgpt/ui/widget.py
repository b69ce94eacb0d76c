"""The assistant on a shop's own page: the script that `<script src=".../widget.js" data-key=... data-model=...>` loads.

What it looks like and does is in `widget.js`, which comes from here as it is, but for its words. The shop's page needs
`script-src` and `connect-src` for this server in its Content-Security-Policy, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from glassgpt.core.words import LANGUAGES, Sentence, translate
from glassgpt.server.guard import WIDGET

FRESH_S = 600  # seconds that browsers keep it before they ask whether it has changed
SCRIPT = Path(__file__).parent / "widget.js"
PLACE = "const WORDS = {};"  # the line of the script that its words come into
# What the script says, by the names that it uses.
WORDS = {
    "assistant": Sentence("Assistant"),
    "open": Sentence("Open the chat"),
    "unread": Sentence("Open the chat: a new reply"),
    "close": Sentence("Close"),
    "new": Sentence("New conversation"),
    "hello": Sentence("Hello! How can I help you?"),
    "conversation": Sentence("Conversation"),
    "field": Sentence("Your message"),
    "hint": Sentence("Write a message…"),
    "send": Sentence("Send"),
    "stop": Sentence("Stop"),
    "you": Sentence("You"),
    "writing": Sentence("The assistant is writing"),
    "machine": Sentence("Answers are written by a machine and can be wrong."),
    "again": Sentence("Try again"),
    "stopped": Sentence("Stopped here."),
    "length": Sentence("The reply became too long and ends here."),
    "left": Sentence("The reply was interrupted."),
    "forgotten": Sentence("The assistant no longer sees the beginning of this conversation."),
    "tab": Sentence("(opens in a new tab)"),
    "offline": Sentence("You are offline."),
    "unreachable": Sentence("The assistant cannot be reached at the moment."),
    "refused": Sentence("The assistant is not available on this page."),
    "often": Sentence("That was a lot at once. Please try again in {seconds} s."),
    "failed": Sentence("The assistant has a problem at the moment."),
    "silent": Sentence("The assistant had nothing to say to that."),
    "long": Sentence("This message is too long for the assistant. Please shorten it."),
}


def widget_script() -> bytes:
    """The script with its words in all languages."""
    words = {language: {name: translate(one.template, language) for name, one in WORDS.items()}
             for language in LANGUAGES}  # fmt: skip
    before, _, after = SCRIPT.read_text(encoding="utf-8").partition(PLACE)
    return f"{before}const WORDS = {json.dumps(words)};{after}".encode()


def add_widget(app: FastAPI) -> None:
    """Serve the script at /widget.js, which needs no key and is for pages of any origin."""
    body = widget_script()
    mark = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    headers = {"cache-control": f"public, max-age={FRESH_S}", "etag": mark,
               "cross-origin-resource-policy": "cross-origin"}  # fmt: skip

    async def widget(request: Request) -> Response:
        known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
        if mark in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="text/javascript")

    app.add_api_route(WIDGET, widget, methods=["GET", "HEAD"], include_in_schema=False)
