"""A conversation to ids and a loss mask: the one place where chat, training, serving and export meet.

Ids come from data (`text.families`), never from rendering a string and never from running a model's Jinja
template, so what a user types stays plain text. Text between two control tokens is encoded in one piece, as
the models were trained; the content of an assistant's message always begins a piece of its own, so that a
reply has the same ids in training as when it was generated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from glassgpt.core.errors import ConfigError, FormatError, InputError, nearest
from glassgpt.text.families import BOS, EOS, FAMILIES, Control, Family, Piece, Turn
from glassgpt.text.tokenizer import Tokenizer

Message = dict[str, str]  # {"role": "system" | "user" | "assistant" | "tool", "content": text}
_LONGEST_JINJA = 1 << 18  # characters; the longest known template has 17,000


@dataclass(frozen=True)
class Encoded:
    """A conversation as ids. `loss_mask[i]` is True where `ids[i]` is something the assistant wrote: the
    content of its messages and the token that ends each; False everywhere else."""

    ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True)
class Template:
    """One family of chat templates. Get one with `get_template` or `recognise`.

    Qwen 3: the generation prompt holds an empty <think> block, which makes the model answer without thinking
    aloud; earlier replies lose their <think> part, as in the model's own template.
    "plain": `User: ...` and `Assistant: ...` for base models without chat tokens; replies end at `eos_id` or,
    where the model goes on with the user's part, at the string in `stop_strings`.
    """

    family: Family

    @property
    def name(self) -> str:
        """The name that `get_template` knows it by."""
        return self.family.name

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Text that ends a reply; empty for families that end it with a token."""
        return self.family.stop_strings

    def encode(
        self, tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> Encoded:
        """The ids of a conversation and which of them the assistant wrote.

        Args:
            tokenizer: the model's; it must have the family's control tokens.
            messages: at least one; each with a `role` and a `content`, both text.
            add_generation_prompt: end with what stands before a reply, so that the model writes one.

        Raises:
            InputError: messages that cannot be used, with the position and role of the first such.
            FormatError: the tokenizer lacks a control token of this family.
        """
        self.require(tokenizer)
        family, out = self.family, _Pieces(tokenizer)
        out.add(family.begin)
        if family.begin_as_tokenizer and tokenizer.add_bos:
            out.add((BOS,))
        turns = self._arranged(messages)
        last_user = _last_question(turns)
        for i, (role, content) in enumerate(turns):
            turn = family.turns[role]
            if role == "assistant":
                self._reply(out, turn, content, answers=i > last_user, last=i == len(turns) - 1)
                continue
            opens = role == "tool" and (i == 0 or turns[i - 1][0] != "tool")
            closes = role == "tool" and (i + 1 == len(turns) or turns[i + 1][0] != "tool")
            out.add(family.tool_run[0] if opens else ())
            out.add((*turn.before, content, *turn.after))
            out.add(family.tool_run[1] if closes else ())
        if add_generation_prompt:
            out.add(family.generation or family.turns["assistant"].before)
        out.flush()
        return Encoded(out.ids, out.mask)

    def stop_ids(self, tokenizer: Tokenizer) -> frozenset[int]:
        """The ids that end a reply: the family's end of turn and the tokenizer's own end of sequence."""
        end = self.family.turns["assistant"].after[0]
        names = [*self.family.stops, *([end.name] if isinstance(end, Control) else [])]
        ids = {tokenizer.eos_id, *(tokenizer.token_id(n) for n in names)}
        return frozenset(i for i in ids if i is not None)

    def reply(self, text: str) -> str:
        """What a finished reply adds to the conversation: without its <think> part (Qwen 3; "" when it ended
        before the thinking did), without the space that a plain reply begins with."""
        if self.family.thinking and "<think>" in text:
            text = text.split("</think>", 1)[1] if "</think>" in text else ""
        if self.family.thinking:
            return text.split("</think>")[-1].lstrip("\n")
        return text.strip() if self.family.lead else text

    def require(self, tokenizer: Tokenizer) -> None:
        """Raises FormatError unless the tokenizer has what this family is made of."""
        missing = [name for name in sorted(self.family.control) if tokenizer.token_id(name) is None]
        turns = [piece for turn in self.family.turns.values() for piece in turn.after]
        if BOS in self.family.begin and tokenizer.bos_id is None:
            missing.append("bos")
        if EOS in turns and tokenizer.eos_id is None and not self.family.lead:
            missing.append("eos")
        if missing:
            raise FormatError(
                "the template {name} needs the control tokens {missing}, which this tokenizer does not have",
                hint="Choose another with --template NAME; plain works with every tokenizer.",
                name=self.name,
                missing=" ".join(missing),
            )

    def _reply(self, out: _Pieces, turn: Turn, content: str, *, answers: bool, last: bool) -> None:
        out.add(turn.before)
        if self.family.thinking:
            content = self._thought(out, content, answers=answers, last=last)
        out.add((self.family.lead + content,), learn=True)
        end, *rest = turn.after
        # A tokenizer without an end of sequence ends the plain assistant's turn with its line.
        no_end = end is EOS and out.tokenizer.eos_id is None
        out.add(rest[:1] if no_end else (end,), learn=True)
        out.add(rest[1:] if no_end else rest)

    def _thought(self, out: _Pieces, content: str, *, answers: bool, last: bool) -> str:
        """Writes the <think> block that Qwen 3 puts before its answer to the last question, and gives back the
        content without it. An empty block is part of the prompt, so it is not learned."""
        thought = ""
        if "</think>" in content:
            before, content = content.split("</think>")[0], content.split("</think>")[-1].lstrip("\n")
            thought = before.rstrip("\n").split("<think>")[-1].strip("\n")
        if answers and (last or thought):
            block: tuple[Piece, ...] = (Control("<think>"), f"\n{thought}\n", Control("</think>"), "\n\n")
            out.add(block, learn=bool(thought))
            content = content.lstrip("\n")
        return content

    def _arranged(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
        """Checked (role, content) pairs with the system message where this family wants it."""
        family = self.family
        if not messages:
            raise InputError("the conversation has no messages", hint="Give at least one message of the user.")
        turns = [self._checked(i, m) for i, m in enumerate(messages)]
        system = turns[0][1] if turns[0][0] == "system" else family.default_system
        rest = turns[1:] if turns[0][0] == "system" else turns
        if family.alternate:
            self._check_order([role for role, _ in rest], offset=len(turns) - len(rest))
        if system is not None and family.system_in_user is not None:
            if not rest:
                raise InputError(
                    "the conversation is only a system message, and {name} puts that into the user's first",
                    hint="Add a message of the user.",
                    name=self.name,
                )
            # The models' own template trims the user's part but not the system's.
            raw = messages[0]["content"]
            return [("user", raw + family.system_in_user + rest[0][1]), *rest[1:]]
        first = [] if system is None else [("system", family.system_first + system)]
        return first + rest

    def _checked(self, position: int, message: Message) -> tuple[str, str]:
        place = position + 1
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            given = ", ".join(map(str, message)) if isinstance(message, dict) else type(message).__name__
            raise InputError(
                "message {place} holds {given}; it must hold a role and a content and nothing else",
                hint='Write it as {{"role": "user", "content": "..."}}.',
                place=place,
                given=given[:80] or "{}",
            )
        role, content = message["role"], message["content"]
        roles = [*self.family.turns, *(["system"] if self.family.system_in_user is not None else [])]
        early = role == "system" and "system" not in self.family.turns and position > 0
        if role not in roles or early:
            raise InputError(
                "message {place} has the role {role}, which the template {name} does not take there",
                hint="Its roles are {roles}; a system message goes first.",
                place=place,
                role=repr(role)[:40],
                name=self.name,
                roles=", ".join(roles),
            )
        if not isinstance(content, str):
            raise InputError(
                "the content of message {place} ({role}) is of the kind {kind}; it must be text",
                hint="Give the content as one string.",
                place=place,
                role=role,
                kind=type(content).__name__,
            )
        return role, content.strip() if self.family.trim else content

    def _check_order(self, roles: list[str], offset: int) -> None:
        for i, role in enumerate(roles):
            expected = ("user", "assistant")[i % 2]
            if role != expected:
                raise InputError(
                    "message {place} has the role {role} where the template {name} expects {expected}",
                    hint="User and assistant must take turns, the user first.",
                    place=i + offset + 1,
                    role=role,
                    name=self.name,
                    expected=expected,
                )


@dataclass
class _Pieces:
    """Collects pieces into ids: text is held back until a control token or a learned piece follows."""

    tokenizer: Tokenizer
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    _text: str = ""
    _after: Literal["start", "control", "text"] = "start"
    _strip: bool = False

    def add(self, pieces: Sequence[Piece], *, learn: bool = False) -> None:
        """Adds pieces; `learn` marks all of them as written by the assistant."""
        if learn:
            self.flush()
        for piece in pieces:
            if isinstance(piece, str):
                self._text += piece
            elif piece.or_text and self.tokenizer.token_id(piece.name) is None:
                self._text += piece.name
            else:
                self.flush(learn)
                self._control(piece, learn)
        if learn:
            self.flush(learn)

    def flush(self, learn: bool = False) -> None:
        """Encodes the text held back."""
        text = self._text.lstrip() if self._strip else self._text
        self._text = ""
        if text:
            self._extend(self.tokenizer.encode_segment(text, after=self._after), learn)
            self._after, self._strip = "text", False

    def _control(self, piece: Control, learn: bool) -> None:
        known = {BOS: self.tokenizer.bos_id, EOS: self.tokenizer.eos_id}
        number = known[piece] if piece in known else self.tokenizer.token_id(piece.name)
        if number is not None:  # only `plain` may lack one: see `Template.require`
            self._extend([number], learn)
            self._after, self._strip = "control", self.tokenizer.strips_after(number)

    def _extend(self, ids: list[int], learn: bool) -> None:
        self.ids.extend(ids)
        self.mask.extend([learn] * len(ids))


TEMPLATES: dict[str, Template] = {family.name: Template(family) for family in FAMILIES}


def get_template(name: str) -> Template:
    """The template of that name.

    Raises:
        ConfigError: there is none; the nearest is suggested.
    """
    if name not in TEMPLATES:
        raise ConfigError(
            "there is no template {name}",
            hint="The nearest is {nearest}; known are {known}.",
            name=repr(name)[:60],
            nearest=nearest(str(name), list(TEMPLATES)) or "-",
            known=", ".join(TEMPLATES),
        )
    return TEMPLATES[name]


def recognise(jinja: str | None, tokenizer: Tokenizer, *, name: str = "") -> Template:
    """The family that a model's own chat template belongs to, told by its text. The text is never executed.

    Args:
        jinja: the template that came with the model, or None.
        tokenizer: the model's.
        name: the model's name, for the message.

    Raises:
        FormatError: no template, an unknown one, or one whose control tokens the tokenizer lacks.
    """
    model, known = name or "model", ", ".join(TEMPLATES)
    if not jinja or not jinja.strip():
        raise FormatError(
            "{model} brings no chat template",
            hint="Choose one with --template NAME: {known} (plain for a base model).",
            model=model,
            known=known,
        )
    text = _normal(jinja[:_LONGEST_JINJA])
    for family in FAMILIES:
        marks, unless = map(_normal, family.marks), map(_normal, family.unless)
        if family.marks and all(m in text for m in marks) and not any(u in text for u in unless):
            template = TEMPLATES[family.name]
            template.require(tokenizer)
            return template
    raise FormatError(
        "{model} brings a chat template of an unknown family",
        hint="Choose the nearest with --template NAME: {known}.",
        model=model,
        known=known,
    )


def _normal(jinja: str) -> str:
    """One spelling for what Jinja allows to write in several ways: quotes, "\\n", `a['b']` and `a.b`, and
    literals in several parts."""
    text = jinja.replace("\r\n", "\n").replace("\\n", "\n").replace('"', "'")
    text = re.sub(r"\['(\w+)'\]", r".\1", text)
    text = re.sub(r"[ \t]*([+|])[ \t]*", r"\1", text)
    return text.replace("'+'", "")


def _last_question(turns: list[tuple[str, str]]) -> int:
    """Where the last message of the user stands that is not the result of a tool."""
    for i in range(len(turns) - 1, -1, -1):
        role, content = turns[i]
        if role == "user" and not (content.startswith("<tool_response>") and content.endswith("</tool_response>")):
            return i
    return len(turns) - 1
