"""Who may ask: keys, compared in constant time, each with its limits. Their text is never kept or logged."""

from __future__ import annotations

import hashlib
import hmac
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassgpt.core.errors import ConfigError, NotFoundError
from glassgpt.server.problems import Problem
from glassgpt.server.restricted import Restriction, draw

LEAST = 16  # characters of a key
_KINDS = {"name": str, "key": str, "models": list, "per_minute": int}
_IN_PAGES = {"origins": list, "visitor_per_minute": int, "max_tokens": int, "proxies": list}  # of keys in pages


@dataclass
class Key:
    """A key, known by its hash.

    Attributes:
        name: what logs call it.
        digest: SHA-256 of its text.
        models: those that it may use; None for all.
        per_minute: how many requests it may make in a minute; 0 for any number.
        restriction: what else it may not do, because it stands in a page where everyone can read it.
    """

    name: str
    digest: bytes
    models: tuple[str, ...] | None = None
    per_minute: int = 0
    restriction: Restriction | None = None
    tokens: float = field(default=0.0, repr=False)
    filled_at: float = field(default=0.0, repr=False)

    def spend(self, now: float) -> float:
        """Take one request from what is left; gives the seconds until there is one again, 0 where there was."""
        if not self.per_minute:
            return 0.0
        left, at = (self.tokens, self.filled_at) if self.filled_at else (float(self.per_minute), now)
        self.tokens, wait = draw(self.per_minute, left, at, now)
        self.filled_at = now
        return wait


def key_of(text: str, name: str = "key", models: Sequence[str] | None = None, per_minute: int = 0) -> Key:
    """A key from its text; raises ConfigError where that is too short to be one."""
    if len(text) < LEAST or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            "the key {name} is not usable; expected at least {least} printable ASCII characters without spaces",
            hint="Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`.",
            name=name,
            least=LEAST,
        )
    return Key(name, digest(text), tuple(models) if models is not None else None, per_minute)


def digest(text: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def read_keys(path: str | Path) -> list[Key]:
    """Keys from a TOML file: tables `[[key]]` with `name`, `key`, and if wanted `models` and `per_minute`.

    One with `origins` stands in pages of those origins, and is a restricted one: it must name its models, and may have
    `visitor_per_minute`, `max_tokens` and `proxies` (see `Restriction`).

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is something else, or a field is unknown or of another kind.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError("there is no file {path}", hint="Check the path.", path=path) from None
    except (OSError, ValueError) as error:
        raise ConfigError("{path} is not a TOML file of keys: {why}", path=path, why=str(error)[:200]) from None
    tables = found.get("key")
    if set(found) != {"key"} or not isinstance(tables, list) or not tables:
        raise ConfigError("{path} holds no keys", hint="Write a table [[key]] with name and key for each.", path=path)
    keys = []
    for number, table in enumerate(tables, 1):
        wrong = [name for name, value in table.items() if not _fits(name, value)]
        if wrong or "key" not in table:
            raise ConfigError(
                "{path}: key {number} has {wrong}; expected name, key, models (a list) and per_minute (a number), and "
                "for a key in a page origins (a list), visitor_per_minute, max_tokens (numbers) and proxies (a list)",
                path=path,
                number=number,
                wrong=", ".join(wrong)[:80] or "no key",
            )
        per_minute = table.get("per_minute", 0)
        if per_minute < 0:
            raise ConfigError("{path}: key {number} has per_minute {value}; expected 0, for any number, or more",
                              path=path, number=number, value=per_minute)  # fmt: skip
        found_key = key_of(table["key"], table.get("name", f"key {number}"), table.get("models"), per_minute)
        found_key.restriction = _restriction(table, path, number)
        keys.append(found_key)
    return keys


def _fits(name: str, value: object) -> bool:
    kind = (_KINDS | _IN_PAGES).get(name)
    if kind is None or not isinstance(value, kind) or isinstance(value, bool):
        return False
    return not isinstance(value, list) or all(isinstance(one, str) for one in value)


def _restriction(table: dict[str, Any], path: str | Path, number: int) -> Restriction | None:
    given = {name: value for name, value in table.items() if name in _IN_PAGES}
    if given and "origins" not in given:
        raise ConfigError("{path}: key {number} has {wrong}, and no origins", path=path, number=number,
                          wrong=", ".join(given), hint="Only a key in a page has them; name its origins.")  # fmt: skip
    if given and not table.get("models"):
        raise ConfigError("{path}: key {number} has origins, and no models", path=path, number=number,
                          hint="Everyone can read a key in a page; name the models that it may use.")  # fmt: skip
    return Restriction(**given) if given else None


class Keys:
    """All keys of a server; none means that nobody needs one."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = list(keys)

    @property
    def origins(self) -> set[str]:
        """Those of all pages that have a key of their own."""
        return {origin for key in self.keys if key.restriction for origin in key.restriction.origins}

    def find(self, authorization: str, x_api_key: str) -> Key | None:
        """The key that a request brings; None where no key is needed.

        Raises:
            Problem: it brings none, or one that is not known (401).
        """
        if not self.keys:
            return None
        kind, _, text = authorization.partition(" ")
        given = text.strip() if kind.lower() == "bearer" else x_api_key.strip()
        if not given:
            raise Problem(401, "a key is missing: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
                          code="missing_api_key", headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
        found = self.known(given)
        if found is None:
            raise Problem(401, "the key is not known here", code="invalid_api_key",
                          headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
        return found

    def known(self, text: str) -> Key | None:
        """The key with this text."""
        wanted, found = digest(text), None
        for key in self.keys:  # all of them, so that time tells nothing
            if hmac.compare_digest(key.digest, wanted):
                found = key
        return found


def check_rate(key: Key | None) -> None:
    """Raises Problem (429) where a key has used up its minute."""
    wait = key.spend(time.monotonic()) if key is not None else 0.0
    if wait:
        raise Problem(429, "this key may not ask so often", code="rate_limit_exceeded",
                      headers={"Retry-After": str(max(1, round(wait + 0.5)))})  # fmt: skip


def check_model(key: Key | None, model: str) -> None:
    """Raises Problem (403) where a key may not use a model."""
    if key is not None and key.models is not None and model not in key.models:
        raise Problem(403, f"this key may not use the model {model[:80]!r}", param="model", code="model_not_allowed")
