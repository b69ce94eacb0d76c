"""The app: which path is answered by what. Its state is the models; nothing of a request is kept."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from glassgpt.core.errors import GlassError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.server.answer import Answer, Event
from glassgpt.server.ask import Ask, prepare, prepare_all
from glassgpt.server.assistants import AssistantAnswer, check
from glassgpt.server.chat import ChatRequest, ChatWriter
from glassgpt.server.completions import CompletionRequest, CompletionWriter
from glassgpt.server.door import Door, is_page_path
from glassgpt.server.embeddings import EmbeddingsRequest, embed
from glassgpt.server.fields import B, parse
from glassgpt.server.guard import App, Guard, Limits, Receive, Scope, Send
from glassgpt.server.hub import Hub
from glassgpt.server.keys import Keys, check_model
from glassgpt.server.messages import CountRequest, MessagesRequest, MessageWriter
from glassgpt.server.metrics import Metrics
from glassgpt.server.problems import Problem, problem_of
from glassgpt.server.responses import ResponsesRequest, ResponseWriter
from glassgpt.server.restricted import within
from glassgpt.server.stream import EventStream, Writer, until_gone

BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest, "/v1/completions": CompletionRequest, "/v1/responses": ResponsesRequest,
    "/v1/embeddings": EmbeddingsRequest, "/v1/messages": MessagesRequest, "/v1/messages/count_tokens": CountRequest,
}  # fmt: skip
_SMALL, _LARGE = 1 << 12, 1 << 16  # bytes of a body: up to the first a text is turned into tokens at once


class _Asking(Protocol):
    """What the bodies of requests for text have in common."""

    model: str
    stream: bool | None


@dataclass(frozen=True)
class ServerSettings:
    """How a server stands in the world.

    - `hosts`: names that it is reached by.
    - `origins`: those of other pages that may ask from a browser.
    - `log_messages`: whether what is said goes into the log.
    """

    hosts: Sequence[str] = ("127.0.0.1", "localhost", "::1")
    origins: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    log_messages: bool = False


def make_app(hub: Hub, keys: Keys, settings: ServerSettings | None = None, door: Door | None = None,
             page: FastAPI | None = None, failed: Callable[[Exception], None] | None = None,
             adds: Sequence[Callable[[FastAPI], None]] = ()) -> App:  # fmt: skip
    """The whole server as an ASGI app, behind its guard.

    Args:
        door: lets browsers in to `page`, which has all paths that are not the API's.
        adds: what puts further paths beside the API's.
        failed: the first model is loaded when the server has begun, and this called where that cannot be.
    """
    settings = settings or ServerSettings()

    server = _Server(hub, Metrics(hub), settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with page.router.lifespan_context(page) if page is not None else nullcontext():
            if failed is None:  # the first model is there already
                server.metrics.watch()
            else:
                hub.begin(failed, server.metrics.watch)
            yield
            server.metrics.unwatch()
        hub.close()

    app = FastAPI(title="glassgpt", version=version("glassgpt"), lifespan=life, docs_url=None, redoc_url=None)
    paths = {
        "/v1/chat/completions": server.chat, "/v1/completions": server.completions, "/v1/responses": server.responses,
        "/v1/embeddings": server.embeddings, "/v1/messages": server.messages,
        "/v1/messages/count_tokens": server.count_tokens, "/v1/models": server.list_models,
        "/v1/models/{name:path}": server.one_model, "/health": server.health, "/metrics": server.show_metrics,
    }  # fmt: skip
    answer: Any
    for path, answer in paths.items():
        app.add_api_route(path, answer, methods=["POST" if path in BODIES else "GET"], response_class=Response,
                          operation_id=answer.__name__)  # fmt: skip
    for add in adds:
        add(app)
    app.add_exception_handler(HTTPException, _not_here)
    for kind in (Problem, GlassError, Exception):  # what is left to the last is also told to the guard, which logs it
        app.add_exception_handler(kind, _refused)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    whole: App = app if page is None else _Split(app, page)
    return Guard(whole, keys, [host.lower() for host in settings.hosts], list(settings.origins), settings.limits,
                 server.metrics.observe, door)  # fmt: skip


@dataclass(frozen=True)
class _Split:
    """The API and the page as one app."""

    app: FastAPI
    page: FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the beginning and the end."""
        is_page = scope["type"] != "lifespan" and is_page_path(scope["path"])
        await (self.page if is_page else self.app)(scope, receive, send)


class _Server:
    """What answers each path."""

    def __init__(self, hub: Hub, metrics: Metrics, settings: ServerSettings) -> None:
        self.hub, self.metrics, self.settings = hub, metrics, settings

    async def chat(self, request: Request) -> Response:
        body = await _parsed(ChatRequest, request)
        key = request.state.key
        ask = within(key.restriction if key else None, body.ask())
        return await self._reply(request, body, [ask], lambda model, answer: ChatWriter(
            body, answer, fingerprint(model.name, model.precision)))  # fmt: skip

    async def completions(self, request: Request) -> Response:
        body = await _parsed(CompletionRequest, request)
        self._plain(body.model)

        def writer(model: LanguageModel, answer: Answer) -> CompletionWriter:
            echoes = [p if isinstance(p, str) else model.tokenizer.decode(p) for p in body.prompts()]
            return CompletionWriter(body, answer, fingerprint(model.name, model.precision), echoes)

        return await self._reply(request, body, body.asks(), writer)

    async def responses(self, request: Request) -> Response:
        body = await _parsed(ResponsesRequest, request)
        return await self._reply(request, body, [body.ask()], lambda _, answer: ResponseWriter(body, answer))

    async def messages(self, request: Request) -> Response:
        body = await _parsed(MessagesRequest, request)
        return await self._reply(request, body, [body.ask()], lambda _, answer: MessageWriter(body, answer))

    async def count_tokens(self, request: Request) -> Response:
        body = await _parsed(CountRequest, request)
        self._plain(body.model)
        async with self._held(body.model) as (_, model):
            prepared = await asyncio.to_thread(prepare, model, body.ask())
            return JSONResponse({"input_tokens": prepared.prompt_tokens})

    async def embeddings(self, request: Request) -> Response:
        body = await _parsed(EmbeddingsRequest, request)
        self._plain(body.model)
        async with self._held(body.model) as (_, model):
            return JSONResponse(await until_gone(request.receive, embed(model, body)))

    async def list_models(self, request: Request) -> Response:
        key = request.state.key
        shown = [self.hub.entry(name) for name in self.hub.listed()
                 if key is None or key.models is None or name in key.models]  # fmt: skip
        data = [_model(e.name, e.created) for e in shown]
        return JSONResponse({"object": "list", "data": data, "has_more": False,
                             "first_id": data[0]["id"] if data else None,
                             "last_id": data[-1]["id"] if data else None})  # fmt: skip

    async def one_model(self, request: Request, name: str) -> Response:
        check_model(request.state.key, name)
        entry = self.hub.entry(name)
        return JSONResponse(_model(entry.name, entry.created))

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _reply(self, request: Request, body: _Asking, asks: Sequence[Ask],
                     writer_of: Callable[[LanguageModel, Any], Writer]) -> Response:  # fmt: skip
        """The answer, whole or as a stream."""
        async with self._held(body.model) as (held, model):
            answer = await self._answer(request, body.model, model, asks)
            writer, events = writer_of(model, answer), answer.events()
            if not body.stream:
                found = await until_gone(request.receive, _all_of(events))
                return JSONResponse(writer.whole(found))
            held.push_async_callback(events.aclose)
            stream = await EventStream(events, writer, AsyncExitStack()).ready(request.receive)
            stream.held = held.pop_all()
            return stream

    def _plain(self, name: str) -> None:
        """Raises Problem (400) where it is an assistant."""
        if self.hub.entry(name).assistant is not None:
            raise Problem(400, "this model is an assistant: it answers messages alone", param="model")

    @asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[tuple[AsyncExitStack, LanguageModel]]:
        """The model, for as long as it is needed: a stream takes over what holds it."""
        async with AsyncExitStack() as stack:
            model = await stack.enter_async_context(self.hub.use(name))
            yield stack, model

    async def _answer(
        self, request: Request, name: str, model: LanguageModel, asks: Sequence[Ask]
    ) -> Answer | AssistantAnswer:
        answer: Answer | AssistantAnswer
        make = self.hub.entry(name).assistant
        if make is not None:
            check(asks[0])
            answer = AssistantAnswer(make(model), asks[0])
        elif request.state.size <= _SMALL:
            answer = Answer(prepare_all(model, asks))
        else:
            answer = Answer(await asyncio.to_thread(prepare_all, model, asks))
        note, began = request.state.note, time.monotonic()
        read = answer.prompt_tokens
        note |= {"model": name, "prompt_tokens": read, "completion_tokens": 0}
        if self.settings.log_messages:
            said: list[Any] = [(turn.role, turn.text) for turn in asks[0].turns]
            note["messages"] = said or [ask.prompt for ask in asks]

        def count() -> None:  # knows nothing of the answer, or neither would go before the collector finds them
            if not note["completion_tokens"]:
                self.metrics.first.labels(name).observe(time.monotonic() - began)
                self.metrics.tokens[name, "read"] += read
            note["completion_tokens"] += 1
            self.metrics.tokens[name, "written"] += 1

        answer.count = count
        return answer


async def _all_of(events: AsyncGenerator[list[Event], None]) -> list[Event]:
    async with aclosing(events):
        return [event async for batch in events for event in batch]


async def _parsed(kind: type[B], request: Request) -> B:
    """The body, of a client that may use the model. A large one is read in a thread: others are answered meanwhile."""
    given = await request.body()
    request.state.size = len(given)
    body = parse(kind, given) if len(given) <= _LARGE else await asyncio.to_thread(parse, kind, given)
    check_model(request.state.key, body.model)  # type: ignore[attr-defined]  # every body has one
    return body


@cache
def fingerprint(name: str, precision: str) -> str:
    """What answers: the same model, precision and version have the same."""
    about = f"{name} {precision} {version('glassgpt')}"
    return "fp_" + hashlib.sha256(about.encode()).hexdigest()[:12]


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "glassgpt", "type": "model",
            "display_name": name,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created))}  # fmt: skip


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = {404: f"there is nothing at {request.url.path[:100]}", 405: "this path takes another method"}
    return await _refused(request, Problem(error.status_code, what.get(error.status_code, str(error.detail)),
                                           headers=dict(error.headers or {})))  # fmt: skip


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, ConnectionError | TimeoutError):
        raise error
    problem = problem_of(error)
    if problem.status >= 500 and isinstance(error, GlassError):
        fields = {"request_id": request.state.request_id}
        logging.getLogger("glassgpt.server").error("failed", exc_info=error, extra={"fields": fields})
    shape = problem.anthropic() if request.url.path.startswith("/v1/messages") else problem.openai()
    return JSONResponse(shape, problem.status, headers=problem.headers)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the bodies of requests."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds = [(kind, "validation") for kind in BODIES.values()]
        _, schemas = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        found.setdefault("components", {})["schemas"] = schemas["$defs"]
        for path, kind in BODIES.items():
            post = found["paths"][path]["post"]
            reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
            post["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        app.openapi_schema = found
    return app.openapi_schema
