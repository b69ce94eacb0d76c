"""The scheduler against a runner that remembers, for every slot of every page, which text was written there.

The oracle shares nothing with the scheduler: texts are interned in a trie, so a slot holds the number of exactly one
beginning of a text, and whatever a row reads must be the beginnings of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassgpt
from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.engine.pages import PAGE, PagePool, Sequence, pages_for
from glassgpt.engine.scheduler import QueueFull, Scheduler, Work, share

STOP = 0
ENDLESS = 1 << 31  # a vocabulary so large that no reply of these tests stops by itself


def next_token(tokens: list[int], salt: str = "", vocabulary: int = 4) -> int:
    """A model whose choice hangs on every token before."""
    return zlib.crc32(repr((salt, tokens)).encode()) % vocabulary


def reply(sequence: Sequence, vocabulary: int = 4) -> list[int]:
    """What `sequence` must become: one token after the other, with nothing beside it."""
    tokens = sequence.tokens[: sequence.prompt]
    while len(tokens) < sequence.limit:
        tokens.append(next_token(tokens, sequence.salt, vocabulary))
        if tokens[-1] == STOP:
            break
    return tokens


class Runner:
    """Writes and checks slots. What it generates is read from them, so a wrong slot would also be a wrong reply."""

    def __init__(self, scheduler: Scheduler, vocabulary: int = 4) -> None:
        self.scheduler, self.vocabulary = scheduler, vocabulary
        self.slots = [[-1] * PAGE for _ in range(scheduler.pool.count)]
        self.names: dict[tuple[int | str, int], int] = {}  # (the beginning without its last token, that token)
        self.texts: list[tuple[str, list[int]]] = []
        self.rows = self.steps = 0

    def name(self, before: int | str, token: int) -> int:
        """The number of a beginning: the one before it (the salt at first) and one more token."""
        key = (before, token)
        if key not in self.names:
            self.names[key] = len(self.texts)
            salt, tokens = (before, []) if isinstance(before, str) else self.texts[before]
            self.texts.append((salt, [*tokens, token]))
        return self.names[key]

    def check_reads(self, work: Work) -> None:
        """Each row reads positions 0 to its own; the last row reads them all."""
        sequence, before = work.sequence, work.sequence.salt
        assert len(sequence.pages) >= pages_for(work.start + work.count)
        tokens = sequence.tokens[: work.start] + work.ids()
        for at, token in enumerate(tokens):
            before = self.name(before, token)
            assert self.slots[sequence.pages[at // PAGE]][at % PAGE] == before, (sequence.id, at)

    def compute(self, work: Work) -> list[int]:
        """Write the rows, check what they read, and choose the tokens as a verifying engine does."""
        sequence, ids = work.sequence, work.ids()
        assert len(ids) == work.count and work.start == sequence.cached
        before: int | str = sequence.salt
        for token in sequence.tokens[: work.start]:
            before = self.name(before, token)
        for at, token in enumerate(ids, work.start):
            page = sequence.pages[at // PAGE]
            assert self.scheduler.pool._references[page] == 1, "a page that others hold too is written"
            assert self.scheduler.pool._keys[page] is None, "a published page is written"
            before = self.name(before, token)
            self.slots[page][at % PAGE] = before
        self.check_reads(work)
        self.rows += work.count
        accepted: list[int] = []
        for row in range(work.count - work.outputs, work.count):
            at = work.start + row
            salt, tokens = self.texts[self.slots[sequence.pages[at // PAGE]][at % PAGE]]
            accepted.append(next_token(tokens, salt, self.vocabulary))
            following = ids[row + 1] if row + 1 < work.count else None
            if accepted[-1] == STOP or accepted[-1] != following:
                break
        return accepted

    def step(self, random: Random | None = None, during: list[Sequence] | None = None) -> list[Work]:
        """One step in any order of its work; the sequences of `during` are cancelled in the midst of it."""
        works = self.scheduler.plan()
        assert bool(works) != self.scheduler.idle, "something always moves"
        assert sum(work.count for work in works) <= self.scheduler.rows_per_step
        order = list(works)
        if random is not None:
            random.shuffle(order)
        results = [(work, self.compute(work)) for work in order]
        for sequence in during or []:
            self.scheduler.cancel(sequence)
        for work in order:
            if work.sequence.state == "running":
                self.check_reads(work)  # nothing that was computed beside it wrote over it
        for work, accepted in results:
            self.scheduler.advance(work, accepted)
            if accepted and accepted[-1] == STOP:
                self.scheduler.finish(work.sequence)
        self.steps += 1
        return works

    def run(self, most: int = 10_000) -> None:
        for _ in range(most):
            if self.scheduler.idle:
                return
            self.step()
        raise AssertionError("it never ends")


def check_pool(scheduler: Scheduler) -> None:
    """The counts of a pool, counted again from the sequences."""
    pool = scheduler.pool
    holders = [0] * pool.count
    for sequence in [*scheduler.running, *scheduler._leaving]:
        assert len(set(sequence.pages)) == len(sequence.pages)
        for page in sequence.pages:
            holders[page] += 1
    assert holders == pool._references
    assert pool.free + pool.used + pool.kept == pool.count
    assert not set(pool._free) & set(pool._kept) and len(set(pool._free)) == pool.free
    assert all(holders[page] == 0 for page in [*pool._free, *pool._kept])
    assert {page: key for key, page in pool._index.items()} == {p: k for p, k in enumerate(pool._keys) if k is not None}
    kept = {page: rank for rank, page in enumerate(pool._kept)}
    for (before, tokens), page in pool._index.items():
        assert len(tokens) == PAGE and (holders[page] > 0) != (page in kept)
        if isinstance(before, int):
            assert pool._keys[before] is not None and holders[before] >= holders[page]
            assert before not in kept or kept[page] < kept[before], "a page leaves before the one it follows"
    assert all(not sequence.pages and sequence.cached == 0 for sequence in scheduler.waiting)
    numbers = [sequence.number for sequence in [*scheduler.running, *scheduler.waiting]]
    assert numbers == sorted(numbers), "nobody overtakes"
    assert len(numbers) <= scheduler.max_running + scheduler.max_waiting


def check_nothing_is_left(scheduler: Scheduler) -> None:
    pool = scheduler.pool
    scheduler.plan()
    check_pool(scheduler)
    assert scheduler.idle and not scheduler._leaving and pool.used == 0 and pool.free + pool.kept == pool.count
    assert sorted(pool.take() for _ in range(pool.count)) == list(range(pool.count))
    assert pool.published == 0 and not pool._index


def guesses(sequence: Sequence, random: Random, vocabulary: int) -> list[int]:
    """A draft that is right for a while, or for good."""
    tokens, draft = list(sequence.tokens), []
    for _ in range(random.randrange(8)):
        tokens.append(next_token(tokens, sequence.salt, vocabulary))
        draft.append(tokens[-1] if random.random() < 0.8 else random.randrange(vocabulary))
    return draft


def simulate(seed: int, pages: int, running: int, waiting: int, rows: int, arrivals: int) -> Scheduler:
    """A server's day: arrivals with shared beginnings, drafts, forks, cancellations and lost steps, all checked."""
    random = Random(seed)
    scheduler = Scheduler(PagePool(pages), running, waiting, rows)
    vocabulary = random.choice([3, 40, 400])  # how seldom a reply stops by itself
    runner = Runner(scheduler, vocabulary)
    room = pages * PAGE + 1
    long_prompts, long_replies = random.choice([0, 0.4]), random.choice([20, 100, room])
    beginnings = [[random.randrange(3) for _ in range(random.randrange(max(1, room - 4)))] for _ in range(3)]
    everyone: list[Sequence] = []
    cancelled: set[Sequence] = set()

    def arrive() -> bool:
        old = [s for s in everyone if len(s.tokens) < s.limit and STOP not in s.tokens[s.prompt :]]
        try:
            if old and random.random() < 0.25:
                everyone.append(scheduler.fork(random.choice(old)))
                return True
            tokens = beginnings[random.randrange(3)][: random.randrange(room if random.random() < long_prompts else 40)]
            tokens += [random.randrange(3) for _ in range(random.randrange(1, 20))]
            tokens = tokens[: room - 1]
            limit = min(room, len(tokens) + random.randrange(1, long_replies))
            sequence = Sequence(str(len(everyone)), tokens, limit, random.choice(["", "", "other"]))
            scheduler.add(sequence)
            everyone.append(sequence)
            return True
        except QueueFull:
            assert len(scheduler.running) + len(scheduler.waiting) == running + waiting
            return False

    left = arrivals
    while left or not scheduler.idle:
        for _ in range(min(left, random.choice([0, 0, 1, 1, 2, 5]))):
            left -= arrive()
        living = [s for s in everyone if s.state != "finished"]
        if living and random.random() < 0.02:
            cancelled.add(random.choice(living))
            for sequence in cancelled:
                scheduler.cancel(sequence)
        for sequence in scheduler.running:
            if random.random() < 0.5:
                sequence.draft = guesses(sequence, random, vocabulary)
        if random.random() < 0.05:
            scheduler.plan()  # a step that was lost on the way
            check_pool(scheduler)
        if not scheduler.idle:
            during = [s for s in living if random.random() < 0.003]
            cancelled |= {s for s in during if s.state != "finished"}
            runner.step(random, during)
        check_pool(scheduler)
        assert runner.steps < 200 * arrivals + 2_000, "it never ends"
    for sequence in everyone:
        expected = reply(sequence, vocabulary)
        if sequence not in cancelled:
            assert sequence.tokens == expected
        else:
            assert sequence.tokens == expected[: len(sequence.tokens)]
    check_nothing_is_left(scheduler)
    return scheduler


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    pages=st.integers(1, 24),
    running=st.integers(1, 7),
    waiting=st.integers(0, 6),
    spare=st.integers(0, 40),
)
def test_every_row_reads_its_own_text_and_no_page_is_lost(seed, pages, running, waiting, spare):
    simulate(seed, pages, running, waiting, running + spare, arrivals=20)


@pytest.mark.full
@settings(deadline=None, max_examples=1_000)
@given(
    seed=st.integers(0, 1 << 32),
    pages=st.integers(1, 60),
    running=st.integers(1, 12),
    waiting=st.integers(0, 20),
    spare=st.integers(0, 100),
)
def test_every_row_reads_its_own_text_in_many_more_days(seed, pages, running, waiting, spare):
    simulate(seed, pages, running, waiting, running + spare, arrivals=40)


def test_the_simulated_days_do_preempt_evict_and_share():
    days = [simulate(seed, pages=10, running=6, waiting=4, rows=30, arrivals=40).counters() for seed in range(8)]
    assert sum(day.preemptions for day in days) > 20
    assert sum(day.prefix_hits for day in days) > 2_000


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32), others=st.integers(1, 9), pages=st.integers(9, 40))
def test_a_reply_is_the_same_alone_and_under_load(seed, others, pages):
    random = Random(seed)
    prompt = [random.randrange(3) for _ in range(random.randrange(1, 80))]

    def answer(company: int, pages: int) -> list[int]:
        scheduler = Scheduler(PagePool(pages), 6, 20, 24)
        mine = Sequence("mine", prompt, len(prompt) + 40)
        place = random.randrange(company + 1)
        for n in range(company + 1):
            other = [*prompt[: random.randrange(len(prompt) + 1)], random.randrange(3)]
            scheduler.add(mine if n == place else Sequence("other", other, len(other) + random.randrange(1, 50)))
        Runner(scheduler, 100).run()
        return mine.tokens

    alone = answer(0, 100)
    assert alone == answer(others, pages) == reply(Sequence("", prompt, len(prompt) + 40), 100)


def test_a_short_prompt_does_not_wait_for_the_end_of_a_long_one():
    scheduler = Scheduler(PagePool(400), 8, 8, 64)
    long, short = Sequence("long", [1] * 2000, 2010), Sequence("short", [2] * 20, 30)
    runner = Runner(scheduler, ENDLESS)
    scheduler.add(long)
    runner.step()
    scheduler.add(short)
    runner.step()
    assert len(short.tokens) == 21, "20 tokens are less than half of the rows, so one step is enough"
    assert long.cached == 64 + 44, "what the short prompt left goes to the long one"
    runner.step()
    assert (len(short.tokens), long.cached) == (22, 64 + 44 + 63)


def test_prompts_get_on_beside_many_who_generate_with_drafts():
    scheduler = Scheduler(PagePool(400), 8, 8, 16)
    talkers = [Sequence(str(n), [n], 300) for n in range(7)]
    scheduler.add(*talkers)
    runner = Runner(scheduler, ENDLESS)
    runner.step()
    newcomer = Sequence("new", [9] * 50, 60)
    scheduler.add(newcomer)
    steps = 0
    while len(newcomer.tokens) == 50:
        for talker in talkers:
            talker.draft = [5] * 10
        works = runner.step()
        assert len({work.sequence for work in works if work.outputs}) >= 7, "who generates is in every step"
        steps += 1
    assert steps <= 10  # 9 rows beside one for each talker, of which drafts take 4


def test_who_generates_is_never_stalled_by_prompts():
    scheduler = Scheduler(PagePool(1000), 8, 8, 32)
    talker = Sequence("talker", [1, 2, 3], 200)
    scheduler.add(talker)
    runner = Runner(scheduler, ENDLESS)
    runner.step()
    scheduler.add(*[Sequence(str(n), [n] * 1000, 1010) for n in range(7)])
    for step in range(50):
        works = runner.step()
        assert works[0].sequence is talker and len(talker.tokens) == 5 + step
        assert sum(work.count for work in works) == 32, "the rest of the rows is used"


@settings(deadline=None)
@given(wants=st.lists(st.integers(0, 50), max_size=12), rows=st.integers(0, 200))
def test_shares_are_equal_slices(wants, rows):
    slices = share(wants, rows)
    assert sum(slices) == min(rows, sum(wants))
    assert all(0 <= got <= want for got, want in zip(slices, wants, strict=True))
    cut = [got for got, want in zip(slices, wants, strict=True) if got < want]
    if cut:
        assert max(slices) - min(cut) <= 1, "nobody has more than who would like more, but for the rest"
        assert cut == sorted(cut, reverse=True), "which goes to the first"


def test_the_same_prompt_at_once_is_computed_once():
    scheduler = Scheduler(PagePool(100), 4, 4, 64)
    prompt = list(range(1, 501))
    together = [Sequence(str(n), [*prompt, n], 520) for n in range(4)]
    scheduler.add(*together)
    runner = Runner(scheduler, ENDLESS)
    while any(len(sequence.tokens) == 501 for sequence in together):
        runner.step()
    # 31 whole pages once; each computes its own last 5 tokens and what it has generated.
    own = sum(sequence.cached - 496 for sequence in together)
    assert runner.rows == 496 + own
    assert scheduler.counters().prefix_hits == 3 * 496
    assert [sequence.reused for sequence in together] == [0, 496, 496, 496]
    assert scheduler.pool.used <= 31 + 4 * 2


def test_who_waits_for_anothers_page_holds_up_nobody():
    scheduler = Scheduler(PagePool(100), 3, 0, 32)
    scheduler.add(Sequence("a", [1] * 100, 110), Sequence("b", [1] * 100, 110), Sequence("c", [2] * 100, 110))
    works = scheduler.plan()
    assert [(work.sequence.id, work.count) for work in works] == [("a", 16), ("c", 16)]


def test_a_sequence_goes_on_by_itself_when_the_one_it_waited_for_is_cancelled():
    scheduler = Scheduler(PagePool(100), 2, 0, 32)
    first, second = Sequence("a", [1] * 100, 110), Sequence("b", [1] * 100, 110)
    scheduler.add(first, second)
    runner = Runner(scheduler, ENDLESS)
    runner.step(during=[first])
    (work,) = runner.step()
    assert (work.sequence, work.start, work.count) == (second, 0, 32), "what was thrown away is not published"
    runner.run()
    assert second.tokens == reply(second, ENDLESS)


def test_pages_from_a_lost_step_are_filled_and_not_shifted():
    scheduler = Scheduler(PagePool(10), 1, 0, 64)
    sequence = Sequence("", [1] * 40, 50)
    scheduler.add(sequence)
    scheduler.plan()
    mine = list(sequence.pages)
    other = scheduler.pool.take()
    scheduler.pool.publish(other, sequence.key(0))
    (work,) = scheduler.plan()
    assert (work.start, work.count) == (0, 40) and sequence.pages == mine
    scheduler.advance(work, [2])
    assert sequence.pages == [other, *mine[1:]] and sequence.layout == 1, "what was computed twice is kept once"


def test_a_conversation_that_goes_on_reads_only_what_is_new():
    scheduler = Scheduler(PagePool(100), 2, 2, 64)
    first = Sequence("1", list(range(1, 101)), 140)
    scheduler.add(first)
    runner = Runner(scheduler, ENDLESS)
    runner.run()
    before = runner.rows
    second = Sequence("2", [*first.tokens, 7, 8, 9], 144)
    scheduler.add(second)
    runner.step()
    assert second.reused == 128 and runner.rows - before == 143 - 128  # 139 positions were computed: 8 full pages


def test_a_prompt_that_is_wholly_published_still_computes_its_last_page():
    scheduler = Scheduler(PagePool(100), 2, 2, 64)
    runner = Runner(scheduler, ENDLESS)
    for _ in range(2):
        last = Sequence("", [1] * 48, 50)
        scheduler.add(last)
        works = runner.step()
        runner.run()
    assert (works[0].start, works[0].count, works[0].outputs) == (32, 16, 1)


def test_salts_keep_equal_texts_apart():
    scheduler = Scheduler(PagePool(100), 4, 4, 256)
    scheduler.add(*[Sequence(salt, [1] * 60, 70, salt) for salt in ("", "adapter", "other")])
    Runner(scheduler, ENDLESS).run()
    assert scheduler.counters().prefix_hits == 0
    assert scheduler.pool.match([1] * 60, "a third") == []


def test_texts_with_equal_hashes_are_not_taken_for_one_another():
    pool = PagePool(4)
    a, b = (-1,) * PAGE, (-2,) * PAGE
    assert hash(a) == hash(b) and a != b, "Python gives -1 and -2 the same hash"
    page = pool.take()
    pool.publish(page, ("", a))
    assert pool.match(list(b)) == [] and pool.match(list(a)) == [page]


def test_the_least_recently_used_page_leaves_first_and_never_before_what_follows_it():
    pool = PagePool(4)
    old = [pool.take(), pool.take()]
    pool.publish(old[0], ("", (1,) * PAGE))
    pool.publish(old[1], (old[0], (2,) * PAGE))
    new = [pool.take()]
    pool.publish(new[0], ("", (3,) * PAGE))
    pool.release(new)
    pool.release(old)
    pool.release(pool.match([3] * PAGE))  # used once more
    taken = [pool.take() for _ in range(4)]
    assert taken[1:] == [old[1], old[0], new[0]] and pool.published == 0


def test_a_page_that_was_computed_twice_is_kept_once():
    pool = PagePool(4)
    first, second = pool.take(), pool.take()
    assert pool.publish(first, ("", (1,) * PAGE)) == first
    assert pool.publish(second, ("", (1,) * PAGE)) == first
    assert (pool.used, pool.free, pool.published) == (1, 3, 1)
    pool.release([first])
    assert pool.used == 1, "the second one's hold has moved over to it"
    pool.release([first])
    assert (pool.used, pool.kept) == (0, 1)


def test_without_pages_the_youngest_gives_way_and_its_reply_stays_the_same():
    scheduler = Scheduler(PagePool(8), 3, 0, 64)
    old, young = Sequence("old", [1] * 30, 120), Sequence("young", [2] * 30, 120)
    scheduler.add(old, young)
    runner = Runner(scheduler, ENDLESS)
    seen = set()
    while not scheduler.idle:
        runner.step()
        check_pool(scheduler)
        if young.restarts:
            seen.add(old.state)
    assert scheduler.counters().preemptions == young.restarts >= 1 and old.restarts == 0
    assert "running" in seen and [old.tokens, young.tokens] == [reply(s, ENDLESS) for s in (old, young)]


def test_a_prompt_comes_in_when_there_are_pages_for_all_of_it():
    scheduler = Scheduler(PagePool(12), 3, 0, 16)
    sequences = [Sequence(str(n), [n] * 80, 82) for n in range(3)]  # 5 pages each
    scheduler.add(*sequences)
    runner = Runner(scheduler, ENDLESS)
    runner.step()
    assert [sequence.state for sequence in sequences] == ["running", "running", "waiting"]
    runner.run()
    assert scheduler.counters().preemptions == 0 and runner.rows == 3 * 81


def test_a_draft_costs_nobody_a_page():
    scheduler = Scheduler(PagePool(3), 2, 0, 64)
    old, young = Sequence("old", [1] * 15, 40), Sequence("young", [2] * 15, 40)
    scheduler.add(old, young)
    runner = Runner(scheduler, ENDLESS)
    runner.step()
    old.draft, young.draft = [3] * 17, []  # would need a second and a third page
    works = runner.step()
    assert [work.count for work in works] == [1, 1] and scheduler.counters().preemptions == 0


def test_tokens_that_were_forced_are_read_like_a_prompt():
    scheduler = Scheduler(PagePool(8), 1, 0, 64)
    sequence = Sequence("", [1, 2, 3], 40)
    scheduler.add(sequence)
    scheduler.advance(scheduler.plan()[0], [4, 5, 6])
    sequence.draft = [7]
    (work,) = scheduler.plan()
    assert (work.start, work.count, work.outputs, work.ids()) == (3, 3, 1, [4, 5, 6])
    scheduler.advance(work, [8])
    assert sequence.tokens == [1, 2, 3, 4, 5, 6, 8] and sequence.cached == 6


@pytest.mark.parametrize(
    ("accepted", "cached"), [([7, 8, 9], 5), ([7, 8], 4), ([7, 1], 4), ([1], 3), ([], 2), ([1, 8, 9], 3)]
)
def test_rows_of_a_draft_stay_as_far_as_it_was_right(accepted, cached):
    scheduler = Scheduler(PagePool(8), 1, 0, 64)
    sequence = Sequence("", [1, 2], 40)
    scheduler.add(sequence)
    scheduler.advance(scheduler.plan()[0], [3])
    sequence.draft = [7, 8]
    (work,) = scheduler.plan()
    assert (work.start, work.count, work.outputs, work.ids()) == (2, 3, 3, [3, 7, 8])
    scheduler.advance(work, accepted)
    assert (sequence.tokens, sequence.cached, sequence.draft) == ([1, 2, 3, *accepted], cached, [])


def test_pages_of_a_cancelled_sequence_stay_its_own_until_the_step_is_over():
    scheduler = Scheduler(PagePool(2), 2, 0, 64)
    sequence = Sequence("", [1] * 20, 30)
    scheduler.add(sequence)
    (work,) = scheduler.plan()
    scheduler.cancel(sequence)
    assert scheduler.idle and scheduler.pool.free == 0
    scheduler.advance(work, [3])
    assert scheduler.pool.free == 2 and len(sequence.tokens) == 20
    scheduler.cancel(sequence)
    scheduler.advance(work, [3])
    assert scheduler.pool.free == 2, "a second time changes nothing"


def test_a_waiting_sequence_can_be_cancelled():
    scheduler = Scheduler(PagePool(2), 1, 1, 64)
    sequences = [Sequence("", [1], 9), Sequence("", [2], 9)]
    scheduler.add(*sequences)
    scheduler.plan()
    scheduler.cancel(sequences[1])
    assert scheduler.counters().waiting == 0 and sequences[1].state == "finished"


def test_a_fork_shares_the_full_pages():
    scheduler = Scheduler(PagePool(40), 4, 4, 256)
    sequence = Sequence("a", [1] * 100, 120)
    scheduler.add(sequence)
    runner = Runner(scheduler, ENDLESS)
    runner.step()
    twins = [scheduler.fork(sequence), scheduler.fork(sequence, "named")]
    before = runner.rows
    runner.step()
    assert runner.rows - before == 1 + 2 * 5  # of 101 tokens, 96 lie in full pages
    assert [twin.pages[:6] for twin in twins] == [sequence.pages[:6]] * 2
    assert twins[0].id != twins[1].id == "named" and twins[0].prompt == 100
    runner.run()
    assert twins[0].tokens == twins[1].tokens == sequence.tokens


def test_the_queue_has_an_end():
    scheduler = Scheduler(PagePool(8), 2, 3, 8)
    scheduler.add(*[Sequence(str(n), [1], 9) for n in range(5)])
    with pytest.raises(QueueFull) as error:
        scheduler.add(Sequence("6", [1], 9))
    assert (error.value.facts["waiting"], error.value.facts["running"]) == (5, 0)
    Runner(scheduler, ENDLESS).run()
    with pytest.raises(QueueFull):
        scheduler.add(*[Sequence(str(n), [1], 9) for n in range(6)])
    assert scheduler.idle, "all or none"


@pytest.mark.parametrize(
    ("tokens", "limit", "message"),
    [
        ([], 5, "the prompt is empty"),
        ([1] * 5, 5, "the prompt has 5 tokens"),
        ([1], 34, "the key/value cache holds 33"),
    ],
)
def test_what_could_never_be_answered_is_refused_at_once(tokens, limit, message):
    scheduler = Scheduler(PagePool(2), 1, 1, 8)
    with pytest.raises(InputError, match=message):
        scheduler.add(Sequence("", tokens, limit))
    assert scheduler.idle


def test_the_longest_sequence_that_is_taken_uses_every_page_and_ends():
    scheduler = Scheduler(PagePool(2), 2, 1, 8)
    sequences = [Sequence("", [n], 33) for n in range(3)]
    scheduler.add(*sequences)
    Runner(scheduler, ENDLESS).run()
    assert [len(sequence.tokens) for sequence in sequences] == [33] * 3


@pytest.mark.parametrize(
    ("running", "waiting", "rows"), [(0, 1, 8), (2, -1, 8), (4, 1, 3), (True, 1, 8), (1, 1, 1 << 40)]
)
def test_settings_out_of_range_are_named(running, waiting, rows):
    with pytest.raises(ConfigError, match="expected a whole number from"):
        Scheduler(PagePool(2), running, waiting, rows)


def test_a_pool_without_pages_is_refused():
    with pytest.raises(ConfigError, match="room for 0 pages"):
        PagePool(0)


def test_the_counters_add_up():
    scheduler = Scheduler(PagePool(10), 1, 3, 64)
    scheduler.add(Sequence("a", [1] * 40, 50), Sequence("b", [2], 50))
    scheduler.plan()
    counters = scheduler.counters()
    assert (counters.waiting, counters.running) == (1, 1)
    assert (counters.pages_free, counters.pages_used, counters.pages_kept, counters.pages_published) == (7, 3, 0, 0)


def test_a_full_queue_is_told_in_chinese_too():
    scheduler = Scheduler(PagePool(8), 1, 0, 8)
    scheduler.add(Sequence("a", [1], 9))
    with pytest.raises(QueueFull) as error:
        scheduler.add(Sequence("b", [1], 9))
    assert isinstance(error.value, GlassError)
    assert "1 个请求在排队" in error.value.line("zh") and "1 requests are waiting" in error.value.line()
    catalog = Path(glassgpt.__file__).parent / "core" / "words_zh" / "scheduler.json"
    assert {error.value._message, error.value._hint} <= set(json.loads(catalog.read_text(encoding="utf-8")))


def test_no_array_library_is_imported():
    code = "import sys, glassgpt.engine.scheduler; print({'numpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def step_time(running: int, context: int, steps: int = 100) -> float:
    """Seconds that `plan` and `advance` take in one step: the best of many."""
    scheduler = Scheduler(PagePool(running * pages_for(context + steps + 1)), running, 0, 4096)
    scheduler.add(*[Sequence(str(n), [n] * context, context + steps + 1) for n in range(running)])
    while any(len(sequence.tokens) == context for sequence in [*scheduler.running, *scheduler.waiting]):
        for work in scheduler.plan():
            scheduler.advance(work, [1] if work.outputs else [])
    best = float("inf")
    while all(len(s.tokens) < s.limit for s in scheduler.running) and not scheduler.idle:
        begin = time.perf_counter()
        for work in scheduler.plan():
            scheduler.advance(work, [1])
        best = min(best, time.perf_counter() - begin)
    return best


def test_a_step_costs_the_same_in_a_long_context():
    assert step_time(4, 20_000) < 3 * step_time(4, 200) + 20e-6
