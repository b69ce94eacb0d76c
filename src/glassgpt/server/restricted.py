"""Keys that stand in a shop's own page, where everyone can read them: what they may do, and how often each visitor may
ask with one.

Such a key is no secret. What protects the server is that it opens almost nothing: one path, some models, short replies,
few requests a minute. The check of the origin keeps the pages of others from using it; a program can name any origin.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from glassgpt.core.errors import ConfigError
from glassgpt.server.problems import Problem

if TYPE_CHECKING:
    from glassgpt.server.ask import Ask

CHAT = "/v1/chat/completions"  # the one path
MOST_BODY = 64 << 10  # bytes
MOST_VISITORS = 10_000  # that are remembered, for each key
PER_MINUTE, MOST_TOKENS = 10, 512  # where the file of keys says nothing


def draw(per_minute: int, left: float, at: float, now: float) -> tuple[float, float]:
    """Take one request from a bucket that fills up in a minute.

    Args:
        left, at: what was in it, and when (s).

    Returns:
        What is left, and the seconds until there is one again, 0 where there was.
    """
    rate = per_minute / 60
    left = min(float(per_minute), left + (now - at) * rate)
    return (left - 1, 0.0) if left >= 1 else (left, (1 - left) / rate)


class Visitors:
    """How much each visitor has asked in the last minute.

    Args:
        per_minute: how many requests each may make in one.
        most: how many visitors are remembered. Where more come in one minute, those who were seen longest ago are
            forgotten; the key's own `per_minute` holds for all of them together.
    """

    def __init__(self, per_minute: int, most: int = MOST_VISITORS) -> None:
        self.per_minute, self.most = per_minute, most
        self.seen: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who was seen last stands last

    def spend(self, visitor: str, now: float) -> float:
        """Take one request; gives the seconds until the visitor may ask again, 0 where that is now."""
        left, at = self.seen.pop(visitor, (float(self.per_minute), now))
        left, wait = draw(self.per_minute, left, at, now)
        self.seen[visitor] = left, now
        while len(self.seen) > self.most or now - next(iter(self.seen.values()))[1] >= 60:  # that one's is full again
            self.seen.popitem(last=False)
        return wait


@dataclass
class Restriction:
    """What a key in a page may do.

    Attributes:
        origins: of the pages that may use it.
        visitor_per_minute: how many requests each visitor may make in a minute.
        max_tokens: of one reply, at most.
        proxies: addresses of proxies of our own, whose `X-Forwarded-For` tells the visitor's address.

    Raises:
        ConfigError: one of them is none.
    """

    origins: Sequence[str]
    visitor_per_minute: int = PER_MINUTE
    max_tokens: int = MOST_TOKENS
    proxies: Sequence[str] = ()
    clock: Callable[[], float] = time.monotonic
    visitors: Visitors = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not origin or origin != _origin(origin):
                raise ConfigError(
                    "{given!r} is no origin",
                    hint="Write it as browsers do: https://shop.example, without a path, in lower case.",
                    given=origin[:100],
                )
        for name, value in (("visitor_per_minute", self.visitor_per_minute), ("max_tokens", self.max_tokens)):
            if value < 1:
                raise ConfigError("{name} is {value!r}; expected a whole number of at least {least}", name=name,
                                  value=value, least=1)  # fmt: skip
        if not self.origins:
            raise ConfigError("origins is empty", hint="Name the pages that may use the key, or leave origins out.")
        self._trusted = {_address(proxy) for proxy in self.proxies}
        if None in self._trusted:
            raise ConfigError("proxies holds {given}; expected IP addresses", given=", ".join(self.proxies)[:100])
        self.visitors = Visitors(self.visitor_per_minute)

    def admit(self, method: str, path: str, origin: str, visitor: str) -> None:
        """Let a request pass, and count it; raises Problem (403 or 429)."""
        if origin not in self.origins:
            raise Problem(403, "this key is for pages of its own origins alone", code="origin_not_allowed")
        if (method, path) != ("POST", CHAT):
            raise Problem(403, f"this key may ask nothing but POST {CHAT}", code="path_not_allowed")
        wait = self.visitors.spend(visitor, self.clock())
        if wait:
            raise Problem(429, "you may not ask so often", code="rate_limit_exceeded",
                          headers={"Retry-After": str(max(1, round(wait + 0.5)))})  # fmt: skip

    def visitor(self, client: str, forwarded: str) -> str:
        """Who asks: the address of the connection, or the last one in `X-Forwarded-For` that is no proxy of ours. What
        stands before one that cannot be read is not believed: only our proxies vouch for it. Of IPv6 it is the network
        (/64), since everybody has as many addresses in it as they want."""
        found = _address(client)
        for given in reversed(forwarded.split(",")):
            if found not in self._trusted:
                break
            named = _address(_PORT.sub(r"\1\2", given.strip()))
            if named is None:
                break
            found = named
        if isinstance(found, IPv6Address):
            return f"{IPv6Address(int(found) >> 64 << 64)}/64"
        return str(found)


def within(restriction: Restriction | None, ask: Ask) -> Ask:
    """What is asked, with replies no longer than the key allows where no length was given.

    Raises:
        Problem: it asks for something that the key may not (403), or for too long a reply (400).
    """
    if restriction is None:
        return ask
    wrong = (
        ("messages", any(t.role not in ("user", "assistant") or t.calls for t in ask.turns),
         "say anything but what the user and the assistant said"),
        ("tools", bool(ask.tools), "give tools"),
        ("n", ask.count != 1, "ask for more than one reply"),
        ("logprobs", ask.alternatives is not None, "ask for probabilities"),
        ("response_format", ask.format is not None, "ask for a form"),
    )  # fmt: skip
    for name, given, what in wrong:
        if given:
            raise Problem(403, f"this key may not {what}", param=name, code="parameter_not_allowed")
    if ask.most is not None and ask.most > restriction.max_tokens:
        raise Problem(400, f"max_tokens is {ask.most}; this key allows {restriction.max_tokens}", param="max_tokens",
                      code="invalid_value")  # fmt: skip
    return replace(ask, usual=restriction.max_tokens)


def _origin(text: str) -> str:
    """The origin as a browser writes it; empty where it is none."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host or not host.isascii():
        return ""
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None and port != usual else "")


# Some proxies write the port too: 192.0.2.1:5678, [2001:db8::1]:5678; the brackets go either way.
_PORT = re.compile(r"^(?:\[(.*)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5})$")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
