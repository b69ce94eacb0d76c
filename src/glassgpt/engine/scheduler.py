"""Continuous batching: which rows of which sequences are computed in the next step (Yu et al. 2022, "Orca").

The scheduler knows no tensors. A step is `plan`, then a runner that computes the planned rows, then `advance` for each
piece of work. One thread does all three; other threads hand their wishes to it.

A row is one token at one position. Every row's arithmetic depends on its own sequence alone, so a reply is the same
whatever is computed beside it, and whether its keys and values were computed at once, in pieces, or twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.engine.pages import PAGE, Key, PagePool, Sequence, pages_for

_MOST = 1 << 20  # beyond any use: a setting above it is a slip of the hand


class QueueFull(GlassError):  # noqa: N818  # it is a state of the queue that passes, not a mistake
    """No room in the waiting line; later there may be."""


@dataclass(frozen=True, slots=True)
class Work:
    """Rows of one sequence in one step: positions `start` to `start + count - 1`.

    Attributes:
        outputs: how many of the last rows need scores. 0 in the middle of a prompt, otherwise 1, and one more for each
            token of the draft.
    """

    sequence: Sequence
    start: int
    count: int
    outputs: int

    def ids(self) -> list[int]:
        """The token of each row; those of the draft come last."""
        ids = self.sequence.tokens[self.start : self.start + self.count]
        return ids + self.sequence.draft if self.outputs > 1 else ids


@dataclass(frozen=True)
class Counters:
    """For looking in. Free, used and kept pages make up the pool; published are the kept ones and some of the used."""

    waiting: int
    running: int
    pages_free: int
    pages_used: int
    pages_kept: int
    pages_published: int
    prefix_hits: int  # tokens that were found in published pages instead of computed
    preemptions: int


class Scheduler:
    """Shares the rows of each step, and the pages, among sequences. No priorities: who came first is served first.

    - Sequences that generate have one row each in every step, and their drafts where there is room.
    - Prompts share the rest in equal slices, so a short one does not wait for the end of a long one.
    - A sequence whose next page is being computed by an older one waits for it instead of computing it too.
    - Without pages, the youngest running sequence gives its own back and is read again later.

    The oldest sequence is never held up and never preempted, and fits into the pool; so something always moves.

    Args:
        max_running: sequences that are worked on at once.
        max_waiting: sequences that may wait beyond those that could run.
        rows_per_step: bounds what prompts can cost those who generate. At least `max_running`: one row for each.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(self, pool: PagePool, max_running: int, max_waiting: int, rows_per_step: int) -> None:
        _check("max_running", max_running, 1)
        _check("max_waiting", max_waiting, 0)
        _check("rows_per_step", rows_per_step, max_running)
        self.pool = pool
        self.max_running, self.max_waiting, self.rows_per_step = max_running, max_waiting, rows_per_step
        self.running: list[Sequence] = []  # both in the order of arrival, and who runs came before who waits
        self.waiting: deque[Sequence] = deque()
        self._leaving: list[Sequence] = []  # cancelled while a step computes them: their pages are still written
        self._arrivals = self._hits = self._preemptions = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.running and not self.waiting

    def counters(self) -> Counters:
        """How things stand."""
        pool = self.pool
        return Counters(len(self.waiting), len(self.running), pool.free, pool.used, pool.kept, pool.published,
                        self._hits, self._preemptions)  # fmt: skip

    def add(self, *sequences: Sequence) -> None:
        """Put new sequences at the end of the waiting line: all of them, or none where one is refused.

        Raises:
            QueueFull: they would be more than may run and wait.
            InputError: one is empty, has no room for a reply, or could become longer than all pages together.
        """
        for sequence in sequences:
            self._check_size(sequence)
        if len(self.running) + len(self.waiting) + len(sequences) > self.max_running + self.max_waiting:
            raise QueueFull(
                "{waiting} requests are waiting and {running} are being answered; there is no room for {new} more",
                hint="Try again in a moment, or let more requests wait.",
                waiting=len(self.waiting),
                running=len(self.running),
                new=len(sequences),
            )
        for sequence in sequences:
            assert sequence.number < 0 and sequence.state == "waiting", "a sequence is added once"
            sequence.number, self._arrivals = self._arrivals, self._arrivals + 1
            self.waiting.append(sequence)

    def fork(self, sequence: Sequence, id: str = "") -> Sequence:
        """A new sequence, at the end of the line, that goes on from the tokens which `sequence` has now.

        It shares the full pages, which it finds by their tokens like any other; the rows of the last, partly filled
        page are computed again.

        Raises:
            QueueFull, InputError: as `add`.
        """
        name = id or f"{sequence.id}/{self._arrivals}"
        twin = Sequence(name, sequence.tokens, sequence.limit, sequence.salt, prompt=sequence.prompt)
        self.add(twin)
        return twin

    def plan(self) -> list[Work]:
        """The work of the next step: sequences that generate first, then prompts; [] only when `idle`.

        Work of the step before that was never advanced counts as not done.
        """
        for sequence in self._leaving:
            sequence.release(self.pool)
        self._leaving.clear()
        if self.waiting and len(self.running) < self.max_running:
            self._admit()
        counts = self._share_rows()
        generating: list[Work] = []
        reading: list[Work] = []
        # Pages go to the oldest first, so whoever is preempted for them has no work yet.
        for sequence in tuple(self.running):
            if sequence.state != "running":
                break  # preempted, and so are all after it
            sequence.work = None
            count = counts.get(sequence, 0)
            if not count:
                continue
            end = sequence.cached + count
            if end > len(sequence.pages) * PAGE:
                if sequence.draft and pages_for(end) - len(sequence.pages) > self.pool.available:
                    sequence.draft, end, count = [], end - len(sequence.draft), 1  # a guess is not worth a preemption
                if not self._provide(sequence, end):
                    break
            ahead = end - len(sequence.tokens)  # tokens of the draft; negative in the middle of a prompt
            sequence.work = Work(sequence, sequence.cached, count, ahead + 1 if ahead >= 0 else 0)
            (generating if ahead >= 0 and count == ahead + 1 else reading).append(sequence.work)
        return generating + reading

    def advance(self, work: Work, accepted: list[int]) -> None:
        """Take in what became of `work`, which `plan` gave in this step.

        `accepted` is appended to the sequence. Rows of the draft stay as far as it says the same as the draft, the
        others are forgotten. Tokens for which no row was computed (such as those that a grammar forces) may follow;
        they are read like a prompt. A sequence that has reached its limit is finished.

        Args:
            accepted: the tokens that the engine decided on; [] where the work had no outputs.
        """
        sequence = work.sequence
        if sequence.state == "finished":
            if sequence in self._leaving:
                self._leaving.remove(sequence)
                sequence.release(self.pool)
            return
        assert sequence.work is work, "work is advanced once, in the step that it was planned for"
        assert work.outputs or not accepted, "no scores were computed, so nothing can have been accepted"
        assert len(sequence.tokens) + len(accepted) <= sequence.limit, "more tokens than the sequence's limit"
        sequence.work = None
        draft, computed = sequence.draft, work.start + work.count
        if draft:
            right = 0
            while right < len(draft) and right < len(accepted) and draft[right] == accepted[right]:
                right += 1
            computed += right - len(draft)
            sequence.draft = []
        sequence.tokens += accepted
        # The last token's row is always computed in the next step, for its scores.
        sequence.cached = min(computed, len(sequence.tokens) - 1)
        sequence.publish(self.pool)
        if len(sequence.tokens) == sequence.limit:
            self.finish(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Give its pages back: the published ones can be found until their place is needed.

        Nothing happens where it is finished already. Between `plan` and `advance` its pages are still written, so they
        are given back by its `advance`, or by the next `plan` where none comes; what that brings is thrown away.
        """
        if sequence.state == "running":
            self.running.remove(sequence)
            if sequence.work is not None:
                self._leaving.append(sequence)
            else:
                sequence.release(self.pool)
        elif sequence.state == "waiting" and sequence.number >= 0:
            self.waiting.remove(sequence)
        sequence.state = "finished"

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence that nobody wants any more, at any time; the same as `finish`."""
        self.finish(sequence)

    def _check_size(self, sequence: Sequence) -> None:
        if not sequence.tokens:
            raise InputError("the prompt is empty", hint="Give some text to continue.")
        if len(sequence.tokens) >= sequence.limit:
            raise InputError(
                "the prompt has {prompt} tokens, and with its reply it may have {limit}",
                hint="Shorten the prompt, or raise the limit.",
                prompt=len(sequence.tokens),
                limit=sequence.limit,
            )
        room = self.pool.count * PAGE + 1  # the last token's keys and values are never needed
        if sequence.limit > room:
            raise InputError(
                "the prompt and its reply may have {limit} tokens; the key/value cache holds {room}",
                hint="Ask for fewer new tokens, or give the key/value cache more memory.",
                limit=sequence.limit,
                room=room,
            )

    def _admit(self) -> None:
        """Let sequences run, in the order of arrival, as long as there are pages for all that is to be read."""
        pool = self.pool
        promised = sum(max(0, pages_for(len(s.tokens)) - len(s.pages)) for s in self.running)
        while self.waiting and len(self.running) < self.max_running:
            # A page for everyone who runs: without it, who comes in would soon be preempted.
            promised_now = promised + len(self.running)
            if pool.available <= promised_now:
                return
            sequence = self.waiting[0]
            pages = pool.match(sequence.tokens, sequence.salt, (len(sequence.tokens) - 1) // PAGE)
            missing = pages_for(len(sequence.tokens)) - len(pages)
            if missing + promised_now > pool.available:
                pool.release(pages)
                return
            promised += missing
            sequence.reuse(pages)
            self._hits += len(pages) * PAGE
            sequence.state = "running"
            self.running.append(self.waiting.popleft())

    def _share_rows(self) -> dict[Sequence, int]:
        """How many rows each sequence may have; no entry for those that wait for another's page."""
        counts: dict[Sequence, int] = {}
        reading: list[Sequence] = []
        computing: set[Key] = set()
        drafts = 0
        for sequence in self.running:
            if len(sequence.tokens) - sequence.cached == 1:
                counts[sequence] = 1
                drafts += len(sequence.draft)
            else:
                sequence.draft = []
                if self._may_read(sequence, computing):
                    reading.append(sequence)
        spare = self.rows_per_step - len(counts) - len(reading)  # one row each is certain
        if drafts:
            drafting = list(counts)
            # The last position that may be computed is limit - 2: its scores give the last token.
            wants = [min(len(s.draft), s.limit - 1 - len(s.tokens)) for s in drafting]
            # Guesses may take half of what prompts could use, not all of it: nobody starves.
            for sequence, part in zip(drafting, share(wants, spare // 2 if reading else spare), strict=True):
                del sequence.draft[part:]
                counts[sequence] += part
                spare -= part
        wants = [len(s.tokens) - s.cached for s in reading]
        counts.update(zip(reading, share(wants, spare + len(reading)), strict=True))
        return counts

    def _may_read(self, sequence: Sequence, computing: set[Key]) -> bool:
        """Go past what was published since; whether the next page is not among those that older ones are `computing`,
        into which it is then put."""
        tokens = sequence.tokens
        while True:
            page = sequence.cached // PAGE
            if len(tokens) < (page + 1) * PAGE:
                return True  # a part of a page is never shared
            key = sequence.key(page)
            # Nothing of this page is computed yet, and at least one row must be left for the scores.
            can_share = len(sequence.pages) == page and len(tokens) > (page + 1) * PAGE
            found = self.pool.find(key) if can_share else None
            if found is None:
                break
            sequence.reuse([found])
            self._hits += PAGE
        if can_share and key in computing:
            return False
        computing.add(key)
        return True

    def _provide(self, sequence: Sequence, end: int) -> bool:
        """Pages for the positions before `end`, from the youngest sequences if need be; False if it is itself that."""
        missing = pages_for(end) - len(sequence.pages)
        while missing > self.pool.available:
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        sequence.pages += [self.pool.take() for _ in range(missing)]
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the front of the line, without pages; all its tokens are read again as a prompt."""
        assert self.running[-1] is sequence
        self.running.pop()
        sequence.release(self.pool)
        sequence.state = "waiting"
        sequence.restarts += 1
        self.waiting.appendleft(sequence)
        self._preemptions += 1


def share(wants: list[int], rows: int) -> list[int]:
    """`rows` in equal slices, nobody more than wanted; what does not go up evenly goes to the first."""
    slices = [0] * len(wants)
    hungry = [at for at, want in enumerate(wants) if want > 0]
    while rows and hungry:
        slice_ = max(1, rows // len(hungry))
        for at in hungry:
            part = min(wants[at] - slices[at], slice_, rows)
            slices[at] += part
            rows -= part
        hungry = [at for at in hungry if slices[at] < wants[at]]
    return slices


def _check(name: str, value: int, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _MOST:
        what = "{name} is {value}; expected a whole number from {low} to {high}"
        raise ConfigError(what, name=name, value=value, low=low, high=_MOST)
