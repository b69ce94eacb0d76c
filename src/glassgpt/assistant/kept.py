"""A conversation that is kept: what is said to a `Chat` and what it answers goes into a `Store` as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from glassgpt.assistant.conversation import Chat
from glassgpt.assistant.store import Store
from glassgpt.core.errors import InputError, NotFoundError

_TITLE = 60  # characters of the first message that name a conversation


class Kept:
    """A chat with its store.

    Args:
        conversation: goes on with that one, by its id; "last": the one changed last; None: a new one, which is made
            when the first message is said.

    Raises:
        NotFoundError: there is no such conversation.
    """

    def __init__(self, chat: Chat, store: Store, conversation: str | None = None) -> None:
        self.chat, self.store = chat, store
        if conversation == "last":
            found = store.conversations(1).conversations
            if not found:
                raise NotFoundError("there is no conversation yet", hint="Begin one without --continue.")
            conversation = found[0].id
        self.id = conversation
        self.last: str | None = None  # the message of the last reply
        if conversation is not None:
            path = [m for m in store.path(conversation) if m.role in ("user", "assistant")]
            chat.messages = [{"role": m.role, "content": m.text} for m in path if m.text.strip()]
            self.last = next((m.id for m in reversed(path) if m.role == "assistant"), None)

    def stream(self, text: str) -> Iterator[str]:
        """As `Chat.stream`; what was written when it ends, however it ends, is kept."""
        stream = self.chat.stream(text)  # what is wrong with the message is said before anything is kept
        if self.id is None:
            model = self.chat.model.name
            self.id = self.store.create(title_of(text), persona=self.chat.persona, model=model).id
        self.store.add(self.id, "user", text)
        return self._kept(self.id, stream)

    def _kept(self, id: str, stream: Iterator[str]) -> Iterator[str]:
        with self.store.begin_reply(id) as reply:
            self.last = reply.id
            for piece in stream:
                reply.append(piece)
                yield piece
            reply.finish(about_reply(self.chat))

    def forget(self) -> None:
        """The next message begins a new conversation; this one stays in the store."""
        self.chat.reset()
        self.id = self.last = None

    def judge(self, thumb: int = 0, correction: str | None = None) -> None:
        """What the user thinks of the last reply; see `Store.give_feedback`. Raises InputError where there is none."""
        if self.last is None:
            raise InputError("there is no reply yet", hint="Say something first.")
        self.store.give_feedback(self.last, thumb=thumb, correction=correction)


def title_of(text: str) -> str:
    """The title of a conversation that begins with this message."""
    return " ".join(text.split())[:_TITLE]


def about_reply(chat: Chat) -> dict[str, Any]:
    """What is kept of a chat's last reply beside its text."""
    reply = chat.reply
    assert reply is not None
    about: dict[str, Any] = {"finish_reason": reply.finish_reason, "tokens": reply.tokens}
    if reply.left_out:
        about["left_out"] = {"count": len(reply.left_out), "first": reply.left_out[0]["content"][:40]}
    if reply.plan is not None:
        about |= {"kind": reply.plan.kind, "sources": [asdict(source) for source in reply.plan.sources]}
        if reply.plan.footer():
            about["footer"] = reply.plan.footer()
    return about
