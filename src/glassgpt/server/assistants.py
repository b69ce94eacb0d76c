"""Assistants as models of the server: any client that can talk to a model talks to one, under its name.

What is said on the wire is the reply and, in brackets behind it, where it comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from glassgpt.assistant.assistant import Assistant, AssistantChat
from glassgpt.server.answer import Ended, Event, Words
from glassgpt.server.ask import Ask
from glassgpt.server.problems import Problem

_THREADS = 64  # replies that are written at a time; the engine has a queue of its own
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="assistant")


def check(ask: Ask) -> None:
    """Raises Problem (400) for what an assistant does not do: it decides by itself what it calls and how it answers."""
    wrong = (
        ("messages", not ask.turns, "it answers messages and continues no texts"),
        ("messages", bool(ask.turns) and ask.turns[-1].role != "user", "the last message must be the user's"),
        ("messages", any(t.role == "tool" or t.calls for t in ask.turns), "its tools are those of its persona"),
        ("tools", bool(ask.tools), "its tools are those of its persona"),
        ("response_format", ask.format is not None, "it answers in plain text"),
        ("n", ask.count != 1, "it gives one reply"),
        ("stop", bool(ask.stops), "its replies end by themselves"),
        ("logprobs", ask.alternatives is not None, "quoted text has no probabilities"),
    )
    for field, given, why in wrong:
        if given:
            raise Problem(400, f"this model is an assistant: {why}", param=field)


class AssistantAnswer:
    """An assistant's reply, as `Answer` gives a model's. Close its events to stop it."""

    def __init__(self, assistant: Assistant, ask: Ask) -> None:
        self.assistant, self.ask = assistant, ask
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.count: Callable[[], None] = lambda: None

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """All events as they come; what is wrong with the request is raised before the first."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[list[Event] | Exception | None] = asyncio.Queue()
        stopped = False

        def send(item: list[Event] | Exception | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            try:
                with closing(self._written()) as events:
                    for event in events:
                        if stopped:
                            return
                        send([event])
                send(None)
            except Exception as error:
                send(error)

        loop.run_in_executor(_pool, work)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped = True

    def _written(self) -> Generator[Event, None, None]:
        """In a thread: the reply as events."""
        turns = self.ask.turns
        chat = AssistantChat(self.assistant, max_new_tokens=self.ask.most or self.ask.usual, **self.ask.sampling)
        system = "\n\n".join(turn.text for turn in turns if turn.role == "system" and turn.text.strip())
        chat.set_system(system or None)
        chat.messages = [{"role": turn.role, "content": turn.text} for turn in turns[:-1] if turn.role != "system"]
        stream = chat.stream(turns[-1].text)
        for text in stream:
            self.count()
            yield Words(0, text)
        reply = chat.reply
        assert reply is not None and reply.plan is not None
        self.prompt_tokens, self.completion_tokens = reply.read, reply.tokens
        if reply.plan.footer():
            yield Words(0, f"\n\n{reply.plan.footer()}")
        yield Ended(0, "length" if reply.finish_reason == "length" else "stop", reply.tokens)
