"""A row: one training example as text, and where it was read.

Every source ends in rows and everything after works on rows, so that each one can be followed from the file it
stood in to the tokens it became.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "messages", "preference"]
MESSAGE_ROLES = ("system", "user", "assistant", "tool")
TEXT, CHOSEN, REJECTED = "text", "chosen", "rejected"


@dataclass(slots=True)
class Row:
    """One example. `texts[i]` was said by `roles[i]`.

    - A plain text has the one role "text".
    - A conversation has "system", "user", "assistant", "tool"; a prompt with its response is the shortest one.
    - A preference has the messages of its prompt and then "chosen" and "rejected", the two last.

    Attributes:
        source: the file's name as the user is told it (relative to the folder that was given).
        number: which record of that source, from 1; a table's header is not counted.
    """

    source: str
    number: int
    roles: tuple[str, ...]
    texts: list[str]

    @property
    def kind(self) -> Kind:
        """What the row is an example of."""
        last = self.roles[-1]
        return "text" if last == TEXT else "preference" if last == REJECTED else "messages"

    def messages(self, last: Literal["chosen", "rejected"] = "chosen") -> list[dict[str, str]]:
        """The conversation as `text.template` takes it; of a preference, the one that ends with `last`."""
        dropped = REJECTED if last == CHOSEN else CHOSEN
        pairs = zip(self.roles, self.texts, strict=True)
        return [
            {"role": "assistant" if role in (CHOSEN, REJECTED) else role, "content": text}
            for role, text in pairs
            if role != dropped
        ]

    def to_json(self) -> dict[str, Any]:
        """The row as one line of a cleaned JSONL file, with its origin; `sources` reads it back."""
        origin = {"source": self.source, "row": self.number}
        if self.kind == "text":
            return {"text": self.texts[0]} | origin
        if self.kind == "preference":
            prompt = self.messages()[:-1]
            return {"prompt": prompt, "chosen": self.texts[-2], "rejected": self.texts[-1]} | origin
        if self.roles == ("user", "assistant"):
            return {"prompt": self.texts[0], "response": self.texts[1]} | origin
        return {"messages": self.messages()} | origin
