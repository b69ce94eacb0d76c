"""The known families of chat templates, as data: which pieces stand around a message of each role.

A piece is either text or a control token. `text.template` joins them to ids; nothing here is ever rendered to
a string, so the content of a message cannot become a control token.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Control:
    """A control token by name; `BOS` and `EOS` are whatever the tokenizer calls so. One that is `or_text`
    stands as text where the tokenizer has no such token."""

    name: str
    or_text: bool = False


BOS, EOS = Control("bos"), Control("eos")
Piece = str | Control


@dataclass(frozen=True)
class Turn:
    """What stands before and after the content of a message. For the assistant `after` begins with the token
    that ends its turn."""

    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


@dataclass(frozen=True)
class Family:
    """One family of templates.

    Attributes:
        turns: the pieces of each role; a role that is not here is refused.
        marks: a model's own template belongs here when its text holds all of these ...
        unless: ... and none of these.
        begin: pieces before the first message ("tokenizer" stands for `bos_id` where the tokenizer adds one).
        default_system: the system message when the conversation brings none; None for no system message.
        system_first: pieces of text that stand before the content of the first system message.
        system_in_user: text between a system message and the first user message that it becomes part of.
        trim: whether white space around contents is removed.
        alternate: whether user and assistant must take turns, the user first.
        generation: what stands at the end when the assistant is to speak; None takes its `before`.
        thinking: whether replies hold a <think> part that earlier turns leave out (Qwen 3).
        tool_run: pieces that open and close a run of tool results, around the tool role's own.
        stops: further tokens that end a reply, where the tokenizer has them.
        stop_strings: text that ends a reply.
        lead: text between `before` and the assistant's content that belongs to the content.
    """

    name: str
    turns: dict[str, Turn]
    marks: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    begin: tuple[Piece, ...] = ()
    begin_as_tokenizer: bool = False
    default_system: str | None = None
    system_first: str = ""
    system_in_user: str | None = None
    trim: bool = False
    alternate: bool = False
    generation: tuple[Piece, ...] | None = None
    thinking: bool = False
    tool_run: tuple[tuple[Piece, ...], tuple[Piece, ...]] = ((), ())
    stops: tuple[str, ...] = ("<|endoftext|>", "<|end_of_text|>")
    stop_strings: tuple[str, ...] = ()
    lead: str = ""
    control: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        groups = [self.begin, self.generation or (), *self.tool_run]
        groups += [pieces for turn in self.turns.values() for pieces in (turn.before, turn.after)]
        names = {p.name for pieces in groups for p in pieces if isinstance(p, Control) and not p.or_text}
        object.__setattr__(self, "control", frozenset(names - {"bos", "eos"}))


def _roles(*roles: str, **named: str) -> dict[str, str]:
    return {role: role for role in roles} | named


def _between(start: str, separator: str, end: str, after: str, roles: dict[str, str]) -> dict[str, Turn]:
    """`<start>role separator content <end> after`, as ChatML and its like write every turn."""
    return {
        role: Turn((Control(start), name + separator), (Control(end), after) if after else (Control(end),))
        for role, name in roles.items()
    }


_CHATML = _between("<|im_start|>", "\n", "<|im_end|>", "\n", _roles("system", "user", "assistant"))
_PLAIN_CHATML: tuple[str, ...] = (
    *("bos_token", "eos_token", "tools", "<|im_sep|>", "raise_exception", "loop.last", "image"),
    *("strip", "trim", "think", "strftime"),
)
_RESPONSE = Turn(("\n", Control("<tool_response>"), "\n"), ("\n", Control("</tool_response>")))
_PLAIN_RESPONSE = Turn(("\n<tool_response>\n",), ("\n</tool_response>",))
_TOOL_RUN = ((Control("<|im_start|>"), "user"), (Control("<|im_end|>"), "\n"))

_HEADERS = {
    role: Turn((Control("<|start_header_id|>"), role, Control("<|end_header_id|>"), "\n\n"), (Control("<|eot_id|>"),))
    for role in ("system", "user", "assistant")
}
_GEMMA = _between("<start_of_turn>", "\n", "<end_of_turn>", "\n", _roles("user", assistant="model"))
_ZEPHYR = {r: Turn((Control(f"<|{r}|>", or_text=True), "\n"), (EOS, "\n")) for r in ("system", "user", "assistant")}
_PHI3 = {r: Turn((Control(f"<|{r}|>"), "\n"), (Control("<|end|>"), "\n")) for r in ("system", "user", "assistant")}
_PHI4 = {
    r: Turn((Control("<|im_start|>"), r, Control("<|im_sep|>")), (Control("<|im_end|>"),))
    for r in ("system", "user", "assistant")
}

FAMILIES = (
    Family(
        "smollm2",
        _CHATML,
        marks=(
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>",
            "messages[0]['role'] != 'system'",
        ),
        unless=_PLAIN_CHATML,
        default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    ),
    Family(
        "qwen2",
        _CHATML,
        marks=(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>",
            "messages[0]['role'] != 'system'",
        ),
        unless=_PLAIN_CHATML,
        default_system="You are a helpful assistant.",
    ),
    Family(
        "qwen2.5",
        _CHATML | {"tool": _PLAIN_RESPONSE},
        marks=(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>",
            "<tool_response>",
            "loop.index0 - 1].role",
        ),
        unless=("think", "image", "bos_token", "strftime"),
        default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        tool_run=_TOOL_RUN,
    ),
    Family(
        "qwen3",
        _CHATML | {"tool": _RESPONSE},
        marks=(
            "<|im_start|>",
            "enable_thinking is defined and enable_thinking is false",
            "<think>\n\n</think>\n\n",
            "ns.last_query_index",
            "reasoning_content.strip('\n')",
        ),
        unless=("image", "bos_token", "strftime", "<function="),
        thinking=True,
        tool_run=_TOOL_RUN,
        generation=(
            Control("<|im_start|>"),
            "assistant\n",
            Control("<think>"),
            "\n\n",
            Control("</think>"),
            "\n\n",
        ),
    ),
    Family(
        "chatml",
        _CHATML,
        marks=("'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'",),
        unless=(*_PLAIN_CHATML, "system"),
    ),
    Family(
        "llama3.1",
        _HEADERS,
        marks=("<|start_header_id|>", "Cutting Knowledge Date: December 2023", "26 Jul 2024", "| trim"),
        unless=("strftime", "image"),
        begin=(BOS,),
        default_system="",
        system_first="Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
        trim=True,
        stops=("<|end_of_text|>", "<|eom_id|>"),
    ),
    Family(
        "llama3",
        _HEADERS,
        marks=(
            "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim"
            " + '<|eot_id|>'",
            "bos_token + content",
        ),
        unless=("tools", "Cutting Knowledge", "strftime", "image", "raise_exception"),
        begin=(BOS,),
        trim=True,
        stops=("<|end_of_text|>",),
    ),
    Family(
        "gemma2",
        _GEMMA,
        marks=("bos_token", "<start_of_turn>", "System role not supported", "| trim + '<end_of_turn>\n'"),
        unless=("tools", "image", "think"),
        begin=(BOS,),
        trim=True,
        alternate=True,
    ),
    Family(
        "gemma",
        _GEMMA,
        marks=("bos_token", "<start_of_turn>", "first_user_prefix", "<end_of_turn>\n", "| trim"),
        unless=("tools", "think"),
        begin=(BOS,),
        system_in_user="\n\n",
        trim=True,
        alternate=True,
    ),
    Family(
        "zephyr",
        _ZEPHYR,
        marks=(
            "'<|user|>\n' + message['content'] + eos_token",
            "'<|system|>\n' + message['content'] + eos_token",
            "'<|assistant|>\n'  + message['content'] + eos_token",
        ),
        unless=("bos_token", "tools", "raise_exception", "strip", "trim"),
    ),
    Family(
        "phi3",
        _PHI3,
        marks=("'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n'", "'<|assistant|>\n'"),
        unless=("bos_token", "eos_token", "tools", "image", "trim"),
    ),
    Family(
        "phi4",
        _PHI4,
        marks=(
            "'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'",
            "'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'",
        ),
        unless=("tools", "bos_token", "trim", "think"),
        alternate=True,
    ),
    Family(
        "plain",
        {
            "system": Turn((), ("\n\n",)),
            "user": Turn(("User: ",), ("\n",)),
            "assistant": Turn(("Assistant:",), (EOS, "\n")),
        },
        begin_as_tokenizer=True,
        lead=" ",
        stop_strings=("\nUser:",),
    ),
)
