"""A text that is still being written, as safe HTML: only what has changed is drawn and given again.

A block is finished once another has begun at least two lines before the last: Markdown looks no further ahead (a
table's first row is told by the line after it). So only the end of the text, the tail, is read again with each piece.

What it costs is bounded: a tail that is longer than `SMALL` is read again only when it has grown by a sixteenth, and
what came since is shown plain after it. The addresses of links (`[name]: https://...`) may come after their use, in a
block that is finished; `end` draws the text again for their sake.
"""

from __future__ import annotations

from typing import Any

from glassgpt.ui.markdown import Draft, blocks_of, cleaned, plain, read, split_plain, too_large
from glassgpt.ui.markdown_rules import Spent

SMALL = 800  # characters of a tail that is drawn with each piece
_GROWTH = 16


class Stream:
    """A text that grows.

    Attributes:
        blocks: the HTML of the text so far, block by block.
    """

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._text, self._held = "", ""
        self._begin = 0  # where the tail begins in the text
        self._finished: list[str] = []
        self._brackets = False  # whether a finished block could hold a link whose address comes later
        self._spent, self._references = Spent(), dict[str, Any]()
        self._draft = Draft()
        self._large = False
        self._drawn, self._read = list[str](), 0  # the tail's blocks, and how much of it they show

    def push(self, piece: str) -> tuple[int, list[str]]:
        """More of the text.

        Returns:
            The number of the first block that has changed, and all blocks from there on: whatever stood from that
            number on is to be replaced by them.
        """
        piece = self._held + piece
        self._held = "\r" if piece.endswith("\r") else ""  # the other half of a line end may come
        piece = cleaned(piece.removesuffix("\r"))
        self._text += piece
        if self._large or too_large(self._text):
            return self._change(self._plain())
        tail = len(self._text) - self._begin
        if tail <= SMALL or tail - self._read >= tail // _GROWTH:
            self._draw()
        rest = self._text[self._begin + self._read :]
        return self._change([*self._finished, *self._drawn, *([plain(rest)] if rest.strip() else [])])

    def end(self) -> tuple[int, list[str]]:
        """The text is whole; gives what changes by that, as `push` does. Then the blocks are those of `blocks_of`."""
        if self._held:
            self._held = ""
            self._text += "\n"
        return self._change(self._plain() if self._large or too_large(self._text) else self._last())

    def _plain(self) -> list[str]:
        """The blocks of a text beyond the limits; all but the last stay as they are."""
        if not self._large:
            self._large, self._finished, self._begin = True, [], 0
        *whole, last = split_plain(self._text[self._begin :])
        self._begin += sum(map(len, whole))
        self._finished += map(plain, whole)
        return [*self._finished, plain(last)]

    def _last(self) -> list[str]:
        """The finished blocks, and the tail drawn in full."""
        reading = read(self._text[self._begin :], self._spent.copy(), dict(self._references))
        if reading is None:
            return blocks_of(self._text)
        if reading.references and self._brackets:
            return blocks_of(self._text)
        spent = self._spent.copy()
        return [*self._finished, *(reading.draw(block, spent) for block in reading.blocks)]

    def _draw(self) -> None:
        """Read the tail, put aside the blocks that are finished, and draw the others."""
        tail = self._text[self._begin :]
        reading = read(tail, self._spent.copy(), dict(self._references))
        if reading is None:  # shown plain, as `blocks_of` will
            self._drawn, self._read = [], 0
            return
        last = len(reading.lines) - 1
        count = max((n for n, block in enumerate(reading.blocks) if block.begin <= last - 2), default=0)
        for block in reading.blocks[:count]:
            self._finished.append(reading.draw(block, self._spent))
            self._spent.cells += block.cells
            self._brackets |= "]" in "\n".join(reading.lines[block.begin : block.end])
        if count:
            cut = reading.blocks[count - 1].end
            for name, link in reading.references.items():
                if name not in self._references and link["map"][1] <= cut:
                    self._references[name] = link
            moved = sum(map(len, reading.lines[:cut])) + cut
            self._begin += moved
            self._draft = Draft()
            tail = tail[moved:]
        spent = self._spent.copy()
        self._draft.begin()
        self._drawn = [reading.draw(block, spent, self._draft) for block in reading.blocks[count:]]
        self._read = len(tail)

    def _change(self, blocks: list[str]) -> tuple[int, list[str]]:
        old, self.blocks = self.blocks, blocks
        first = next(
            (n for n, (a, b) in enumerate(zip(old, blocks, strict=False)) if a != b), min(len(old), len(blocks))
        )
        return first, blocks[first:]
