"""How a browser gets in: it brings a key once and has a signed cookie from then on.

The cookie says which key was brought, and until when it holds. It is signed with a secret of this installation, so that
an open page goes on after the server was started anew. The key itself is never kept by the browser.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from glassgpt.core.html import element, page
from glassgpt.core.words import say
from glassgpt.server.keys import Key, Keys
from glassgpt.server.problems import Problem

HOLDS_S = 30 * 24 * 3600  # seconds that a cookie holds
LONGEST_FORM = 4096  # bytes of the form that brings a key
SIGN_IN = "/sign-in"
# What a page may do: nothing of another host, whatever it shows. Its library writes scripts into the page and compiles
# templates, so that these two cannot be forbidden.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_API = ("/v1/", "/metrics", "/health", "/openapi.json", "/widget.js")


@dataclass
class Door:
    """Lets browsers in.

    Attributes:
        keys: those of the server. One that may not use every model opens no page.
        secret: signs cookies; at least 32 bytes.
        lasting: the names of keys whose cookies hold although the key is a new one at each start.
    """

    keys: Keys
    secret: bytes
    lasting: Sequence[str] = ()
    now: Callable[[], float] = time.time

    def key(self, host: str, cookies: str) -> Key | None:
        """Whose cookie a request brings; None where no key is needed.

        Raises:
            Problem: it brings none that holds (401).
        """
        if not self.keys.keys:
            return None
        try:
            found = SimpleCookie(cookies).get(_cookie_name(host))
        except CookieError:
            found = None
        parts = found.value.split(".") if found is not None else []
        if len(parts) == 3 and parts[1].isdigit() and len(parts[1]) < 16 and int(parts[1]) > self.now():
            for key in self._opening():
                if hmac.compare_digest(
                    self._sign(key, parts[0], parts[1]).encode(), parts[2].encode("utf-8", "replace")
                ):
                    return key
        raise Problem(401, "the page is opened with a key: start at /", code="missing_api_key")

    def cookie(self, host: str, text: str, secure: bool = False) -> str | None:
        """The `Set-Cookie` header for a browser that brings a key; None where that opens no page."""
        found = self.keys.known(text)
        if found is None or found not in self._opening():
            return None
        label, until = hashlib.sha256(found.name.encode()).hexdigest()[:16], str(int(self.now()) + HOLDS_S)
        value = f"{label}.{until}.{self._sign(found, label, until)}"
        return (f"{_cookie_name(host)}={value}; Path=/; Max-Age={HOLDS_S}; HttpOnly; SameSite=Lax"
                f"{'; Secure' if secure else ''}")  # fmt: skip

    def _opening(self) -> list[Key]:
        return [key for key in self.keys.keys if key.models is None]

    def _sign(self, key: Key, label: str, until: str) -> str:
        """Binds the cookie to the key itself, but for one that is made anew at each start."""
        which = b"" if key.name in self.lasting else key.digest
        said = b"\0".join([key.name.encode(), which, label.encode(), until.encode()])
        return hmac.new(self.secret, said, hashlib.sha256).hexdigest()


def is_page_path(path: str) -> bool:
    """Whether a path is the page's, and none of the API's."""
    return not path.startswith(_API)


def token_in(query: bytes) -> str | None:
    """The key in an address such as /?token=KEY."""
    found = parse_qs(query.decode("latin-1"), max_num_fields=20).get("token")
    return found[0] if found else None


def key_in(form: bytes) -> str:
    """The key in the form of the page that asks for it."""
    found = parse_qs(form.decode("utf-8", "replace"), max_num_fields=20).get("key")
    return found[0].strip() if found else ""


def sign_in_page(language: str, wrong: bool = False) -> str:
    """Asks for a key. `wrong`: one was brought that opens no page."""
    label = say("The key that `glassgpt serve` told when it started", language)
    parts: list[object] = []
    if wrong:
        parts.append(element("p", say("This key does not open the page.", language), role="alert", class_="bad"))
    look = "font: inherit; padding: .4rem 1rem; max-width: 100%"
    field = element("input", id="key", name="key", type="password", autocomplete="current-password", size=40,
                    required="", style=look)  # fmt: skip
    button = element("p", element("button", say("Open", language), style=look))
    parts.append(element("form", element("p", element("label", label, for_="key")), field, button, method="post",
                         action=SIGN_IN))  # fmt: skip
    return page("glassgpt", language, *parts, forms=True)


def language_of(accepted: str) -> str:
    """The language of a browser by its `Accept-Language` header: "zh" where Chinese is wanted more than English."""
    best, weight = "en", -1.0
    for part in accepted.split(",")[:20]:
        name, _, quality = part.strip().lower().partition(";q=")
        try:
            given = float(quality) if quality else 1.0
        except ValueError:
            given = 0.0
        if name[:2] in ("en", "zh") and given > weight:
            best, weight = name[:2], given
    return best


def _cookie_name(host: str) -> str:
    """One for each port: a browser shows a computer's cookies to all of its servers."""
    port = host.rpartition(":")[2]
    return f"glassgpt-{port if port.isdigit() else 'page'}"
