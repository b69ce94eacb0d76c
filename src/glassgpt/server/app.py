"""The app: which path is answered by what. Its state is the models; nothing of a request is kept."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from glassgpt.core.errors import GlassError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.server.answer import Answer
from glassgpt.server.ask import Ask, prepare, prepare_all
from glassgpt.server.chat import ChatRequest, ChatWriter
from glassgpt.server.completions import CompletionRequest, CompletionWriter
from glassgpt.server.embeddings import EmbeddingsRequest, embed
from glassgpt.server.fields import B, parse
from glassgpt.server.guard import App, Guard, Limits
from glassgpt.server.hub import Hub
from glassgpt.server.keys import Keys, check_model
from glassgpt.server.messages import CountRequest, MessagesRequest, MessageWriter
from glassgpt.server.metrics import Metrics
from glassgpt.server.problems import Problem, problem_of
from glassgpt.server.responses import ResponsesRequest, ResponseWriter
from glassgpt.server.stream import EventStream, until_gone

BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest, "/v1/completions": CompletionRequest, "/v1/responses": ResponsesRequest,
    "/v1/embeddings": EmbeddingsRequest, "/v1/messages": MessagesRequest, "/v1/messages/count_tokens": CountRequest,
}  # fmt: skip
_LARGE = 1 << 16  # bytes of a body


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


def make_app(hub: Hub, keys: Keys, settings: ServerSettings | None = None) -> App:
    """The whole server as an ASGI app, behind its guard."""
    settings = settings or ServerSettings()

    server = _Server(hub, Metrics(hub), settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(server.metrics.watch())
        yield
        watching.cancel()
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
    app.add_exception_handler(HTTPException, _not_here)
    for kind in (Problem, GlassError, Exception):  # what is left to the last is also told to the guard, which logs it
        app.add_exception_handler(kind, _refused)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return Guard(app, keys, [host.lower() for host in settings.hosts], list(settings.origins), settings.limits,
                 server.metrics.observe)  # fmt: skip


class _Server:
    """What answers each path."""

    def __init__(self, hub: Hub, metrics: Metrics, settings: ServerSettings) -> None:
        self.hub, self.metrics, self.settings = hub, metrics, settings

    async def chat(self, request: Request) -> Response:
        body = await _parsed(ChatRequest, request)
        async with self._held(request, body.model) as (held, model):
            answer = await self._answer(request, body.model, model, body.ask())
            writer = ChatWriter(body, fingerprint(model))
            if body.stream:
                return await self._stream(request, held, writer.chunks(answer), last="[DONE]")
            return JSONResponse(await until_gone(request.receive, writer.whole(answer)))

    async def completions(self, request: Request) -> Response:
        body = await _parsed(CompletionRequest, request)
        async with self._held(request, body.model) as (held, model):
            answer = await self._answer(request, body.model, model, *body.asks())
            echoes = [p if isinstance(p, str) else model.tokenizer.decode(p) for p in body.prompts()]
            writer = CompletionWriter(body, fingerprint(model), echoes)
            if body.stream:
                return await self._stream(request, held, writer.chunks(answer), last="[DONE]")
            return JSONResponse(await until_gone(request.receive, writer.whole(answer)))

    async def responses(self, request: Request) -> Response:
        body = await _parsed(ResponsesRequest, request)
        async with self._held(request, body.model) as (held, model):
            answer = await self._answer(request, body.model, model, body.ask())
            writer = ResponseWriter(body)
            if body.stream:
                return await self._stream(request, held, writer.chunks(answer), named=True)
            return JSONResponse(await until_gone(request.receive, writer.whole(answer)))

    async def messages(self, request: Request) -> Response:
        body = await _parsed(MessagesRequest, request)
        async with self._held(request, body.model) as (held, model):
            answer = await self._answer(request, body.model, model, body.ask())
            writer = MessageWriter(body)
            if body.stream:
                return await self._stream(request, held, writer.chunks(answer), named=True, error="anthropic")
            return JSONResponse(await until_gone(request.receive, writer.whole(answer)))

    async def count_tokens(self, request: Request) -> Response:
        body = await _parsed(CountRequest, request)
        async with self._held(request, body.model) as (_, model):
            prepared = await asyncio.to_thread(prepare, model, body.ask())
            return JSONResponse({"input_tokens": prepared.prompt_tokens})

    async def embeddings(self, request: Request) -> Response:
        body = await _parsed(EmbeddingsRequest, request)
        async with self._held(request, body.model) as (_, model):
            return JSONResponse(await until_gone(request.receive, embed(model, body)))

    async def list_models(self, request: Request) -> Response:
        key = request.state.key
        shown = [e for e in self.hub.entries.values() if key is None or key.models is None or e.name in key.models]
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

    @asynccontextmanager
    async def _held(self, request: Request, name: str) -> AsyncIterator[tuple[AsyncExitStack, LanguageModel]]:
        """The model, for as long as it is needed: a stream takes over what holds it."""
        check_model(request.state.key, name)
        async with AsyncExitStack() as stack:
            model = await stack.enter_async_context(self.hub.use(name))
            yield stack, model

    async def _answer(self, request: Request, name: str, model: LanguageModel, *asks: Ask) -> Answer:
        prepared = await asyncio.to_thread(prepare_all, model, asks)
        answer, note, began = Answer(prepared), request.state.note, time.monotonic()
        note |= {"model": name, "prompt_tokens": answer.prompt_tokens}
        if self.settings.log_messages:
            said: list[Any] = [(turn.role, turn.text) for turn in asks[0].turns]
            note["messages"] = said or [ask.prompt for ask in asks]

        def count() -> None:
            if "completion_tokens" not in note:
                self.metrics.first.labels(name).observe(time.monotonic() - began)
                self.metrics.tokens.labels(name, "read").inc(answer.prompt_tokens)
            self.metrics.tokens.labels(name, "written").inc()
            note["completion_tokens"] = note.get("completion_tokens", 0) + 1

        answer.count = count
        return answer

    async def _stream(self, request: Request, held: AsyncExitStack, values: AsyncIterator[dict[str, Any]],
                      **how: Any) -> Response:  # fmt: skip
        held.push_async_callback(values.aclose)  # type: ignore[attr-defined]
        stream = await EventStream(values, AsyncExitStack(), **how).ready(request.receive)
        stream.held = held.pop_all()
        return stream


async def _parsed(kind: type[B], request: Request) -> B:
    """The body; a large one is read in a thread, so that others are answered meanwhile."""
    given = await request.body()
    return parse(kind, given) if len(given) <= _LARGE else await asyncio.to_thread(parse, kind, given)


def fingerprint(model: LanguageModel) -> str:
    """What answers: the same model, precision and version have the same."""
    about = f"{model.name} {model.precision} {version('glassgpt')}"
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
