"""Pages of the key/value cache: which sequence holds which, and which beginning of a text lies in them.

Storage for keys and values is cut into pages of `PAGE` positions (Kwon et al. 2023, arXiv:2309.06180). Here pages are
only numbers; the storage belongs to whoever computes. A full page whose keys and values are computed is *published*:
found again by its tokens and by the page before it, so that a shared beginning is computed once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from glassgpt.core.errors import ConfigError

PAGE = 16  # positions to a page

# What a published page is found by: the page before it (the salt for the first one) and its own tokens. The tokens are
# compared themselves: equal hashes alone would one day give one person's text to another.
Key = tuple[int | str, tuple[int, ...]]
State = Literal["waiting", "running", "finished"]


def pages_for(positions: int) -> int:
    """How many pages hold that many positions."""
    return -(-positions // PAGE)


class PagePool:
    """A fixed number of pages, counted by reference, with an index of the published ones.

    A page is *free* (nothing in it), *used* (a sequence holds it), or *kept* (published, and nobody holds it: it can be
    found by its tokens until its place is needed). Kept pages leave in the order in which they were last used.

    Two rules make a plain chain of numbers safe as a key:

    - Who holds a page holds all pages before it. `publish` sees to that where two sequences computed the same page.
    - `release` lets go of a sequence's last page first. So a page always leaves before the one it follows, and no key
      can name a page that has since been given to another text.

    Args:
        count: how many pages there are.

    Raises:
        ConfigError: `count` is below 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(
                "the key/value cache has room for {count} pages; it needs at least 1",
                hint="Give it more memory, or use a smaller model.",
                count=count,
            )
        self.count = count
        self._free = list(range(count - 1, -1, -1))  # the page that was freed last is taken first
        self._references = [0] * count
        self._kept: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._index: dict[Key, int] = {}
        self._keys: list[Key | None] = [None] * count  # by page; None where it is not published

    @property
    def free(self) -> int:
        """Pages with nothing in them."""
        return len(self._free)

    @property
    def kept(self) -> int:
        """Published pages that nobody holds."""
        return len(self._kept)

    @property
    def available(self) -> int:
        """Pages that `take` can give."""
        return len(self._free) + len(self._kept)

    @property
    def used(self) -> int:
        """Pages that some sequence holds."""
        return self.count - self.available

    @property
    def published(self) -> int:
        """Pages that are found by their tokens, held or not."""
        return len(self._index)

    def take(self) -> int:
        """An empty page, held once by the caller; the least recently used kept page where none is free.

        There must be one: see `available`.
        """
        if self._free:
            page = self._free.pop()
        else:
            page, _ = self._kept.popitem(last=False)
            key, self._keys[page] = self._keys[page], None
            assert key is not None
            del self._index[key]
        self._references[page] = 1
        return page

    def match(self, tokens: list[int], salt: str = "", most: int | None = None) -> list[int]:
        """The longest published beginning of `tokens` in whole pages; the caller holds each of them once more.

        Args:
            salt: keeps apart what must not be shared, such as models or adapters.
            most: the most pages to give; None: all of `tokens`.
        """
        pages: list[int] = []
        before: int | str = salt
        for at in range(len(tokens) // PAGE if most is None else min(most, len(tokens) // PAGE)):
            page = self.find((before, tuple(tokens[at * PAGE : (at + 1) * PAGE])))
            if page is None:
                break
            pages.append(page)
            before = page
        return pages

    def find(self, key: Key) -> int | None:
        """The page published under `key`, which the caller then holds once more; None where there is none."""
        page = self._index.get(key)
        if page is not None:
            self._hold(page)
        return page

    def publish(self, page: int, key: Key) -> int:
        """Let `page`, which the caller holds and has filled, be found under `key`; gives the page found there.

        That is another one where the same tokens were published before: equal tokens have equal keys and values, so
        the caller's hold moves over to it, and `page` becomes free.
        """
        known = self._index.setdefault(key, page)
        if known == page:
            self._keys[page] = key
        else:
            self._hold(known)
            self.release([page])
        return known

    def release(self, pages: list[int]) -> None:
        """Let go of a sequence's `pages`, given in the order of their positions."""
        for page in reversed(pages):
            self._references[page] -= 1
            assert self._references[page] >= 0, "a page was released more often than it was held"
            if self._references[page] == 0:
                if self._keys[page] is None:
                    self._free.append(page)
                else:
                    self._kept[page] = None

    def _hold(self, page: int) -> None:
        if self._references[page] == 0:
            del self._kept[page]
        self._references[page] += 1


@dataclass(eq=False, slots=True)
class Sequence:
    """One text that is being continued.

    Attributes:
        tokens: the prompt, then what was generated.
        limit: the most tokens in all.
        salt: what its keys and values depend on beside the tokens (model, adapter): only equal salts share pages.
        draft: guesses for the tokens that follow, set before `plan`, which may shorten it to what is verified in the
            step; `advance` empties it.
        prompt: how many of `tokens` were there at first.
        cached: positions whose keys and values lie in `pages`. Except while a step runs, rows beyond are not written.
        pages: position p lies in pages[p // PAGE], slot p % PAGE. The list grows at its end.
        layout: grows when `pages` changed in another way than that, for those who keep a copy.
        reused: tokens of the prompt that were found in published pages instead of computed.
    """

    id: str
    tokens: list[int]
    limit: int
    salt: str = ""
    draft: list[int] = field(default_factory=list)
    prompt: int = -1
    state: State = "waiting"
    cached: int = 0
    pages: list[int] = field(default_factory=list)
    layout: int = 0
    reused: int = 0
    restarts: int = 0  # how often it was preempted
    published: int = 0  # how many of its pages, from the first on, can be found by their tokens
    number: int = -1  # its place in the order of arrival
    work: object = None  # what is being computed in this step

    def __post_init__(self) -> None:
        self.tokens = list(self.tokens)
        if self.prompt < 0:
            self.prompt = len(self.tokens)

    def key(self, page: int) -> Key:
        """What its full page number `page` is found by, once the one before it is published."""
        return self.pages[page - 1] if page else self.salt, tuple(self.tokens[page * PAGE : (page + 1) * PAGE])

    def reuse(self, pages: list[int]) -> None:
        """Go past `pages`, which were published by another and follow those that it has."""
        self.pages += pages
        self.cached += len(pages) * PAGE
        self.published += len(pages)
        if not self.restarts:
            self.reused += len(pages) * PAGE

    def publish(self, pool: PagePool) -> None:
        """Let others find the pages that are full and computed."""
        for page in range(self.published, self.cached // PAGE):
            mine = self.pages[page]
            self.pages[page] = pool.publish(mine, self.key(page))
            self.layout += self.pages[page] != mine
            self.published = page + 1

    def release(self, pool: PagePool) -> None:
        """Give all pages back; nothing of it is cached any more."""
        pool.release(self.pages)
        self.pages, self.cached, self.published, self.work = [], 0, 0, None
        self.layout += 1
