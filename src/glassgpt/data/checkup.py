"""One example held against what must be true of it: which tokens are learned, where answers end, how it starts.

A wrong loss mask or template trains without complaint and leaves a model that never stops, or says the user's part.
The rules read nothing but ids, mask, and which control tokens the template and the tokenizer have, so that they share
no code with what lays conversations out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glassgpt.core.words import Sentence
from glassgpt.data.examples import Example, Refused
from glassgpt.text.families import EOS, Control
from glassgpt.text.template import Template
from glassgpt.text.tokenizer import Tokenizer

# With one of these an example must not be trained on.
FAULTS = {
    "nothing-learned": Sentence("no token is learned"),
    "answer-not-learned": Sentence("an answer is not learned"),
    "no-end": Sentence("an answer does not end with its end token"),
    "end-not-learned": Sentence("the end token of an answer is not learned"),
    "answer-cut": Sentence("an answer is cut off"),
    "double-start": Sentence("the start token stands there twice"),
    "frame-learned": Sentence("a control token is learned that the model must not write"),
}
FEW_TOKENS, FEW_SHARE = 2, 0.01  # fewer learned tokens than this, or a smaller share of the example, are worth a word


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong (a key of `FAULTS`), and at which token."""

    kind: str
    position: int


@dataclass(frozen=True, slots=True)
class Checkup:
    """One row in tokens: learned, only read, cut off, and (of a row that makes no example) left out altogether."""

    trained: int = 0
    context: int = 0
    truncated: int = 0
    dropped: int = 0
    faults: tuple[Fault, ...] = ()

    @property
    def few(self) -> bool:
        """Whether next to nothing is learned from it."""
        return bool(self.context + self.trained) and self.trained < max(
            FEW_TOKENS, FEW_SHARE * (self.context + self.trained)
        )


class Examiner:
    """Examines one example after another; see `examine`."""

    def __init__(
        self, tokenizer: Tokenizer, template: Template | None, context: int = 0, *, whole_texts: bool = True
    ) -> None:
        self.tokenizer, self.context, self.whole_texts = tokenizer, context, whole_texts
        self.bos, self.eos = tokenizer.bos_id, tokenizer.eos_id
        self.conversations = template is not None
        self._control = np.array([*map(tokenizer.is_control, range(tokenizer.vocab_size)), False])
        self._end = _answer_end(tokenizer, template)
        self._header = _header(tokenizer, template)
        # A start token that also has another use may stand anywhere, only not two in a row.
        names = template.family.control if template else frozenset()
        self._busy_start = self.bos == self.eos or any(tokenizer.token_id(name) == self.bos for name in names)
        thoughts = ("<think>", "</think>") if template and template.family.thinking else ()
        self._frame = self._control.copy()  # the control tokens that no answer may hold
        self._frame[[i for i in (*self._end, *map(tokenizer.token_id, thoughts)) if i is not None]] = False

    def __call__(self, example: Example | Refused) -> Checkup:
        """What the row is in tokens and what is wrong with it."""
        if isinstance(example, Refused):
            return Checkup(dropped=example.tokens)
        ids, mask = np.asarray(example.ids, dtype=np.int64), np.asarray(example.loss_mask, dtype=bool)
        learned = mask.copy()
        learned[:1] = False  # nothing stands before the first token that it could be predicted from
        trained = int(learned.sum())
        faults = [Fault("nothing-learned", 0)] if not trained else self._of_learning(ids, mask, learned, example)
        faults += self._of_starts(ids)
        return Checkup(trained, len(ids) - trained, example.truncated, faults=tuple(faults))

    def _of_learning(self, ids: np.ndarray, mask: np.ndarray, learned: np.ndarray, example: Example) -> list[Fault]:
        known = np.minimum(ids, self.tokenizer.vocab_size)
        if not self.conversations or (mask[1:].all() and not self._control[known[1:-1]].any()):
            return self._of_text(ids, self._control[known], learned, example)
        faults = [Fault("frame-learned", int(i)) for i in np.flatnonzero(learned & self._frame[known])[:1]]
        edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
        size = len(self._end)
        for start, stop in edges.reshape(-1, 2).tolist():
            if stop - start >= size and ids[stop - size : stop].tolist() == self._end:
                continue
            if ids[stop : stop + size].tolist() == self._end:
                faults.append(Fault("end-not-learned", stop))
            elif stop == len(ids) and (example.truncated or (self.context and stop >= self.context)):
                faults.append(Fault("answer-cut", stop - 1))
            else:
                faults.append(Fault("no-end", stop - 1))
        return faults + self._of_answers(ids, learned)

    def _of_text(self, ids: np.ndarray, control: np.ndarray, learned: np.ndarray, example: Example) -> list[Fault]:
        strange = np.flatnonzero(learned & control & (ids != (-1 if self.eos is None else self.eos)))
        faults = [Fault("frame-learned", int(i)) for i in strange[:1]]
        # What was cut to fit has no end; that is told as a count and no fault.
        if self.eos is not None and self.whole_texts and not example.truncated:
            if ids[-1] != self.eos:
                faults.append(Fault("no-end", len(ids) - 1))
            elif not learned[-1]:
                faults.append(Fault("end-not-learned", len(ids) - 1))
        return faults

    def _of_answers(self, ids: np.ndarray, learned: np.ndarray) -> list[Fault]:
        """Answers that stand there with nothing learned, found by what opens them."""
        if not self._header:
            return []
        for opening in np.flatnonzero(ids == self._header[0]).tolist():
            begin = opening + len(self._header)
            if ids[opening:begin].tolist() == self._header:
                ends = np.flatnonzero(ids[begin:] == self._end[0])
                stop = begin + int(ends[0]) + 1 if len(ends) else len(ids)
                if not learned[begin:stop].any():
                    return [Fault("answer-not-learned", begin)]
        return []

    def _of_starts(self, ids: np.ndarray) -> list[Fault]:
        if self.bos is None:
            return []
        starts = ids == self.bos
        twice = np.flatnonzero(starts[1:] & starts[:-1] if self._busy_start else starts[1:])
        # An empty text is a start and an end, which may be the same token.
        empty = self.bos == self.eos and len(ids) == 2
        return [] if empty else [Fault("double-start", int(i) + 1) for i in twice[:1]]


def examine(
    example: Example | Refused, tokenizer: Tokenizer, template: Template | None, *, context: int = 0,
    whole_texts: bool = True,
) -> Checkup:  # fmt: skip
    """What one example is in tokens, and what is wrong with it.

    Args:
        template: that of the conversations, None where all are texts. An example that is learned whole and holds no
            control tokens inside is taken for a text.
        context: the most tokens an example may have; one so long that ends without its end token was cut off there.
        whole_texts: whether a text must end with the tokenizer's end token.
    """
    return Examiner(tokenizer, template, context, whole_texts=whole_texts)(example)


def _answer_end(tokenizer: Tokenizer, template: Template | None) -> list[int]:
    """The ids that end an answer."""
    if template is None:
        return [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    end, *rest = template.family.turns["assistant"].after
    if end == EOS:
        # Without such a token the plain assistant's turn ends with its line.
        line = rest[0] if rest and isinstance(rest[0], str) else "\n"
        return [tokenizer.eos_id] if tokenizer.eos_id is not None else tokenizer.encode_segment(line, after="text")
    number = tokenizer.token_id(end.name) if isinstance(end, Control) else None
    return [] if number is None else [number]


def _header(tokenizer: Tokenizer, template: Template | None) -> list[int]:
    """The ids that open an answer; none where it is opened by text, which may be cut into tokens in several ways."""
    ids: list[int] = []
    for piece in template.family.turns["assistant"].before if template else ():
        number = tokenizer.token_id(piece.name) if isinstance(piece, Control) else None
        if number is not None:
            ids.append(number)
        elif isinstance(piece, str) and ids:
            text = piece.lstrip() if tokenizer.strips_after(ids[-1]) else piece
            ids += tokenizer.encode_segment(text, after="control") if text else []
        else:
            return []
    return ids
