"""A smaller model guesses what a larger one will write, and the larger one confirms several tokens in one step.

As in Leviathan et al. 2023 (arXiv:2211.17192) and Chen et al. 2023 (arXiv:2302.01318), but in the exact form: a guess
stays only where the larger model chooses that very token, so no reply ever changes. How long guesses are follows from
how many came true and from what the smaller model costs; where they do not pay there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from glassgpt.core.errors import ConfigError
from glassgpt.engine.network import Network
from glassgpt.engine.pages import pages_for
from glassgpt.engine.runner import Rows, Runner
from glassgpt.engine.speculate import MOST, PATIENCE

BRIEF = 50  # looks of a helping thread: the other model's needs its core
WORTH = 1.15  # the gain to expect; less is eaten up by what is not counted, such as reading the prompt twice
_BLEND = 0.1  # how much a new observation counts
_LONGEST_REST = 128  # steps
_LOOK = 32  # steps after which one without guesses shows again what it costs
_PAGES = 4096  # kept for the smaller model's keys and values, unless one whole context needs more


def best_length(rate: float, guess: float, row: float) -> int:
    """How many tokens to guess where each comes true with probability `rate`; 0 where none pays.

    The tokens to expect are equation 1 of Leviathan et al.; `guess` and `row` are what one more guess and one more row
    to confirm take, over the time of a step without guesses.
    """

    def gain(count: int) -> float:
        return sum(rate**i for i in range(count + 1)) / (1 + count * (guess + row))

    count = max(range(MOST + 1), key=gain)
    return count if gain(count) >= WORTH else 0


@dataclass
class Costs:
    """What was measured lately, in seconds: a step without guesses, one more guess for each text, and one more row of
    each text to confirm; 0 where nothing is known yet."""

    plain: float = 0.0
    guess: float = 0.0
    row: float = 0.0
    since: int = 0  # steps since one without guesses

    def note_step(self, seconds: float, texts: int, guesses: int) -> None:
        """A step of the larger model, with one row of each text and some guesses."""
        if not guesses:
            self.plain, self.since = _blend(self.plain, seconds), 0
        elif self.plain:
            self.since += 1
            self.row = _blend(self.row, max(0.0, seconds - self.plain) * texts / guesses)

    def note_guess(self, seconds: float) -> None:
        """A step of the smaller one, with one row of each text."""
        self.guess = _blend(self.guess, seconds)

    @property
    def due(self) -> bool:
        """Whether a step without guesses is due, to know what it costs."""
        return not self.plain or self.since >= _LOOK

    def best(self, rate: float) -> int:
        """How many tokens to guess."""
        return best_length(rate, self.guess / self.plain, self.row / self.plain)


def _blend(known: float, new: float) -> float:
    return known + _BLEND * (new - known) if known else new


@dataclass
class Text:
    """What the smaller model knows of one text.

    Attributes:
        rate: the share of guesses that came true lately.
        read: the tokens whose keys and values lie in `pages`; its own guesses, at the end, may be wrong.
        resting: steps until guessing is tried again, twice as many each time that it did not pay.
    """

    rate: float
    read: list[int] = field(default_factory=list)
    sure: int = 0  # how many of `read` are known to be right
    pages: list[int] = field(default_factory=list)
    resting: int = 0
    rest: int = PATIENCE

    def learn(self, accepted: int, guessed: int) -> None:
        """Note how many of the guesses came true."""
        for number in range(min(accepted + 1, guessed)):
            self.rate += _BLEND * ((number < accepted) - self.rate)

    def wanted(self, costs: Costs) -> int:
        """How many tokens to guess now."""
        if self.resting:
            self.resting -= 1
            return 0
        count = costs.best(self.rate)
        if count:
            self.rest = PATIENCE
        else:
            self.resting, self.rest = self.rest, min(2 * self.rest, _LONGEST_REST)
        return max(1, count)


class DraftModel:
    """Guesses for several texts at once, by a network of its own with a cache of its own. One thread uses it."""

    def __init__(self, network: Network, larger: Network, *, threads: int, most: int) -> None:
        """`most`: how many texts there may be at once.

        Raises:
            ConfigError: the two networks do not have the same vocabulary.
        """
        if network.config.vocab_size != larger.config.vocab_size:
            raise ConfigError(
                "the draft model has {own} tokens, the model {other}",
                hint="Take a smaller model of the same family.",
                own=network.config.vocab_size,
                other=larger.config.vocab_size,
            )
        self.costs: dict[int, Costs] = {}  # by how many texts there are
        self.rate = 0.8  # the share of guesses that came true in all texts: what a new one begins with
        self.context = network.config.context_length
        pages = max(pages_for(self.context), min(_PAGES, most * pages_for(self.context)))
        self.runner = Runner(network, threads=threads, pages=pages, outputs=most, patience=BRIEF)
        self._free = list(range(pages))
        self._texts: dict[int, Text] = {}

    def guess(self, texts: dict[int, Sequence[int]]) -> dict[int, list[int]]:
        """What may come next in each of some texts, by their keys; no entry where nothing is guessed.

        A text that was not read yet is read in pieces, one a call, so that it holds up nobody.
        """
        costs = self.costs_of(len(texts))
        if costs.due:
            return {}
        wants: dict[int, int] = {}
        room = self.runner.rows
        work: list[tuple[int, list[int]]] = []
        for key, tokens in texts.items():
            text = self._texts.setdefault(key, Text(self.rate))
            count = min(text.wanted(costs), self.context - len(tokens))
            if count < 1 or not room or len(wants) == self.runner.outputs:
                continue
            self._forget_wrong(text, tokens)
            rows = list(tokens[len(text.read) : len(text.read) + room])
            if not self._provide(text, len(text.read) + len(rows) + count):
                continue
            room -= len(rows)
            work.append((key, rows))
            wants[key] = count if len(text.read) + len(rows) == len(tokens) else 0
        found: dict[int, list[int]] = {key: [] for key, count in wants.items() if count}
        while work:
            begin = perf_counter()
            for key, token in self._step(work, wants).items():
                found[key].append(token)
            if all(len(ids) <= 2 for _, ids in work):  # and no prompt: a token and a guess that came true at the end
                costs.note_guess(perf_counter() - begin)
            work = [(key, found[key][-1:]) for key, _ in work if wants[key] and len(found[key]) < wants[key]]
        return found

    def costs_of(self, texts: int) -> Costs:
        """What steps with so many texts cost."""
        return self.costs.setdefault(texts, Costs())

    def learn(self, key: int, accepted: int, guessed: int) -> None:
        """Note how many of a text's guesses came true."""
        if key in self._texts:
            self._texts[key].learn(accepted, guessed)
            self.rate = _blend(self.rate, self._texts[key].rate)

    def keep(self, keys: set[int]) -> None:
        """Forget all texts but these."""
        for key in self._texts.keys() - keys:
            self._free += self._texts.pop(key).pages

    def close(self) -> None:
        """End its threads."""
        self.runner.close()

    def _step(self, work: list[tuple[int, list[int]]], wants: dict[int, int]) -> dict[int, int]:
        """Reads rows of some texts; the likeliest next token of those that are to be guessed."""
        back = self.runner.network.config.ngrams - 1
        rows = []
        for key, ids in work:
            text = self._texts[key]
            before = text.read[-back:] if back else ()
            rows.append(Rows(ids, len(text.read), text.pages, 1 if wants[key] else 0, before))
            text.read += ids
        tokens = self.runner.run(rows).argmax(axis=1).tolist()
        return dict(zip((key for key, _ in work if wants[key]), tokens, strict=True))

    @staticmethod
    def _forget_wrong(text: Text, tokens: Sequence[int]) -> None:
        """Go back to where the text went on otherwise, and at least one token: its scores are wanted."""
        end = min(len(text.read), len(tokens) - 1)
        sure = min(text.sure, end)
        while sure < end and text.read[sure] == tokens[sure]:
            sure += 1
        del text.read[sure:]
        text.sure = sure

    def _provide(self, text: Text, positions: int) -> bool:
        missing = pages_for(positions) - len(text.pages)
        if missing > len(self._free):
            return False
        text.pages += [self._free.pop() for _ in range(missing)]
        return True
