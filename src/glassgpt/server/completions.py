"""OpenAI's `/v1/completions`: text that goes on with a prompt."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from glassgpt.server.answer import Answer, Ended, Event, Token, Words
from glassgpt.server.ask import Ask
from glassgpt.server.chat import Count, Sampling, Stops, StreamOptions, stops_of, usage
from glassgpt.server.fields import MAX_CHOICES, MAX_ITEMS, MAX_TEXT, Name, Short, Text
from glassgpt.server.problems import Problem

Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, max_length=MAX_TEXT)]


class CompletionRequest(Sampling):
    """The body of a request. Of several prompts, each is answered as if it were alone."""

    model: Name
    prompt: Text | Ids | Annotated[list[Text], Field(min_length=1, max_length=MAX_ITEMS)] | \
        Annotated[list[Ids], Field(min_length=1, max_length=MAX_ITEMS)]  # fmt: skip
    max_tokens: Count | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    stop: Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: Literal[""] | None = None
    user: Short | None = None

    def asks(self) -> list[Ask]:
        """One for each prompt; raises Problem where fields are at odds."""
        if self.echo and self.logprobs is not None:
            raise Problem(400, "logprobs of an echoed prompt are not supported here", param="logprobs",
                          code="unsupported_parameter")  # fmt: skip
        if self.stream_options is not None and not self.stream:
            raise Problem(400, "stream_options needs stream to be true", param="stream_options")
        prompts = self.prompts()
        if len(prompts) * (self.n or 1) > MAX_CHOICES:
            raise Problem(400, f"{len(prompts)} prompts with n {self.n or 1} are more than {MAX_CHOICES} texts",
                          param="prompt")  # fmt: skip
        if any(not prompt for prompt in prompts):
            raise Problem(400, "a prompt is empty", param="prompt")
        return [
            Ask(prompt=prompt, most=self.max_tokens or 16, sampling={"temperature": 1.0} | self.sampling(),
                stops=stops_of(self.stop), count=self.n or 1, alternatives=self.logprobs)
            for prompt in prompts
        ]  # fmt: skip

    def prompts(self) -> list[str | tuple[int, ...]]:
        """Each prompt, as text or ids."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], int):
            return [tuple(given)]
        return [p if isinstance(p, str) else tuple(p) for p in given]


class CompletionWriter:
    """The answer in this API's form. Choices are numbered through all prompts."""

    named, last, error = False, "[DONE]", "openai"

    def __init__(self, request: CompletionRequest, answer: Answer, fingerprint: str, echoes: list[str]) -> None:
        self.request, self.answer, self.echoes = request, answer, echoes
        self.id, self.created = "cmpl-" + secrets.token_hex(12), int(time.time())
        self._offsets: dict[int, int] = {}
        self._tells = bool(request.stream_options and request.stream_options.include_usage)
        self._frame = {"id": self.id, "object": "text_completion", "created": self.created, "model": request.model,
                       "system_fingerprint": fingerprint}  # fmt: skip

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """All at once."""
        found: dict[int, tuple[list[str], list[Token], str]] = {}
        for event in events:
            text, tokens, _ = found.setdefault(event.index, ([self._echo(event.index)], [], ""))
            if isinstance(event, Words):
                text.append(event.text)
                tokens += event.tokens
            elif isinstance(event, Ended):
                found[event.index] = (text, tokens, event.reason)
        choices = [self._choice(index, "".join(text), tokens, reason)
                   for index, (text, tokens, reason) in sorted(found.items())]  # fmt: skip
        return self._frame | {"choices": choices, "usage": usage(self.answer)}

    def push(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunk for an event."""
        echo = "" if event.index in self._offsets else self._echo(event.index)
        offset = self._offsets.setdefault(event.index, 0)
        if isinstance(event, Words):
            self._offsets[event.index] += len(event.text)
            choice = self._choice(event.index, echo + event.text, list(event.tokens), None, offset)
        elif isinstance(event, Ended):
            choice = self._choice(event.index, echo, [], event.reason)
        else:
            return
        yield self._frame | {"choices": [choice]} | ({"usage": None} if self._tells else {})

    def end(self) -> Iterator[dict[str, Any]]:
        """The last chunk tells what it took, to those who want to know."""
        if self._tells:
            yield self._frame | {"choices": [], "usage": usage(self.answer)}

    def _echo(self, number: int) -> str:
        return self.echoes[number // (self.request.n or 1)] if self.request.echo else ""

    def _choice(self, index: int, text: Any, tokens: Any, reason: Any, offset: int = 0) -> dict[str, Any]:
        logprobs = self._logprobs(tokens, offset) if self.request.logprobs is not None and tokens else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    @staticmethod
    def _logprobs(tokens: list[Token], offset: int) -> dict[str, Any]:
        words, offsets = [t.raw.decode("utf-8", "replace") for t in tokens], []
        for word in words:
            offsets.append(offset)
            offset += len(word)
        return {
            "tokens": words,
            "token_logprobs": [t.logprob for t in tokens],
            "top_logprobs": [{b.decode("utf-8", "replace"): p for b, p in t.alternatives} for t in tokens],
            "text_offset": offsets,
        }
