"""How well a model predicts rows: texts whole, and of conversations the answers; or what a run held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from glassgpt.core.errors import InputError
from glassgpt.core.words import Sentence
from glassgpt.data.batches import IGNORED, Batch
from glassgpt.data.examples import Example, Refused, make_example
from glassgpt.data.rows import Row
from glassgpt.data.shards import Shards
from glassgpt.engine.language_model import LanguageModel
from glassgpt.evaluation.held_out import answer_loss, held_out_windows, windows_loss
from glassgpt.evaluation.perplexity import perplexity


@dataclass
class Score:
    """Losses that are added up.

    - `nats`: the sum of the negative log-probabilities of `tokens` tokens.
    - `bytes`: of UTF-8, that were scored: of a text all of it, of a conversation those of the answers.
    - `rows` that were scored; `refused` those that could not be, with the reason.
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    rows: int = 0
    refused: list[Refused] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean negative log-probability per token, in nats."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Bits needed for each byte, comparable between tokenizers."""
        return self.nats / math.log(2) / max(1, self.bytes)

    def add(self, nats: float, tokens: int, size: int) -> None:
        """One more row."""
        self.nats, self.tokens, self.bytes, self.rows = (
            self.nats + nats, self.tokens + tokens, self.bytes + size, self.rows + 1,
        )  # fmt: skip

    def checked(self) -> Score:
        """Itself; raises InputError when nothing was scored."""
        if self.tokens:
            return self
        raise InputError(
            "none of {count} rows can be scored: {reason}",
            hint="Look at the rows with `glassgpt doctor`.",
            count=len(self.refused),
            reason=self.refused[0].reason if self.refused else Sentence("there are none"),
        )


def score_rows(
    model: LanguageModel,
    rows: Iterable[Row],
    *,
    window: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> Score:
    """The loss of a model on rows.

    A text is scored whole, in windows as `perplexity` reads it. Of a conversation, read through the model's template,
    what training would learn is scored: the assistant's words and the tokens that end them; of a preference, those of
    the chosen answer. A row that makes no example, or is longer than the model's context, is refused.

    Args:
        window: tokens of a text read at a time.
        progress: told tokens of the text that is being read, done and in all.

    Raises:
        InputError: no row can be scored.
        GlassError: there are conversations and no template for them; as `LanguageModel.template`.
    """
    score = Score()
    for row in rows:
        if row.kind == "text":
            try:
                found = perplexity(model, row.texts[0], window=window, progress=progress)
            except InputError as error:
                score.refused.append(Refused(row.source, row.number, error.sentence()))
            else:
                score.add(found.loss * found.tokens, found.tokens, found.bytes)
            continue
        example = make_example(row, model.tokenizer, model.template, model.context_length)
        if isinstance(example, Refused):
            score.refused.append(example)
        elif not example.trained:
            score.refused.append(Refused(row.source, row.number, Sentence("there is no answer in it to score")))
        else:
            _score_example(model, example, score)
    return score.checked()


def score_examples(model: LanguageModel, shards: Shards, progress: Callable[[int, int], None] | None = None) -> Score:
    """The loss on the learned tokens of examples in shards, each read alone; `progress` is told documents."""
    score = Score()
    for example in _examples(shards):
        if example.trained:
            _score_example(model, example, score)
        if progress:
            progress(score.rows, shards.documents)
    return score.checked()


def score_tokens(
    model: LanguageModel, shards: Shards, window: int, progress: Callable[[int, int], None] | None = None
) -> Score:
    """The loss on every token of the shards but the first of each document, as pre-training measures it; `progress` is
    told tokens."""
    score = Score()
    for batch in held_out_windows(shards, min(window, model.context_length)):
        score.add(windows_loss(model.network, batch), batch.trained, _bytes(model, batch.targets[batch.targets >= 0]))
        if progress:
            progress(score.tokens, len(shards) - shards.documents)
    score.rows = shards.documents
    return score.checked()


@torch.inference_mode()
def _score_example(model: LanguageModel, example: Example, score: Score) -> None:
    ids, learned = np.array(example.ids, dtype=np.int64), np.array(example.loss_mask[1:], dtype=bool)
    targets = np.where(learned, ids[1:], IGNORED)  # [T]
    batch = Batch(ids[None, :-1], targets[None], None, int(learned.sum()), len(targets), 0)
    score.add(answer_loss(model.network, batch).item(), batch.trained, _bytes(model, ids[1:][learned]))


def _examples(shards: Shards) -> Iterator[Example]:
    for document in range(shards.documents):
        start, stop = shards.span(document)
        origin = shards.origin(start)
        yield Example(shards.tokens(start, stop).tolist(), shards.mask(start, stop).tolist(), origin.source, origin.row)


def _bytes(model: LanguageModel, ids: np.ndarray) -> int:
    """The bytes that these tokens stand for; an end token stands for none."""
    numbers, counts = np.unique(ids, return_counts=True)
    return sum(len(model.tokenizer.token_bytes(int(i))) * int(n) for i, n in zip(numbers, counts, strict=True))
