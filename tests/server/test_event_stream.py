"""Streams: how values are written, and how pieces come from the engine's thread."""

from __future__ import annotations

import asyncio
import json
import threading

from hypothesis import given
from hypothesis import strategies as st

from glassgpt.server.answer import _Post
from glassgpt.server.stream import _as_json

text = st.text(st.characters(), max_size=20)  # halves of surrogate pairs too
values = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | text,
                      lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
                      max_leaves=12)  # fmt: skip


@given(st.dictionaries(text, values, max_size=4))
def test_a_value_is_json_on_one_line_whatever_is_in_it(value):
    written = _as_json(value)
    assert b"\n" not in written and b"\r" not in written
    assert json.loads(written.decode()) == value


def test_what_several_threads_post_comes_in_the_order_of_each():
    async def main() -> list[tuple[int, int]]:
        loop, post, queue = asyncio.get_running_loop(), _Post(), asyncio.Queue[tuple[int, int]]()

        def send(number: int) -> None:
            for at in range(3000):
                post.send(loop, queue, (number, at))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        found = [await asyncio.wait_for(queue.get(), 20) for _ in range(9000)]
        assert queue.empty()
        return found

    found = asyncio.run(main())
    for number in range(3):
        assert [at for who, at in found if who == number] == list(range(3000))
