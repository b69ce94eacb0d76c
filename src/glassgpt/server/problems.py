"""What goes wrong on the wire: a status, a type and one sentence, which each API puts into its own shape."""

from __future__ import annotations

from typing import Any

from glassgpt.core.errors import ConfigError, FormatError, GlassError, InputError, NotFoundError
from glassgpt.engine.scheduler import QueueFull

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Problem(Exception):  # noqa: N818  # a refusal is not always an error of ours
    """A request that is refused.

    Args:
        status: of HTTP.
        message: one line for whoever asked.
        param: the field that is wrong, if it is one.
        code: a word for programs.
        headers: more of them.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 headers: dict[str, str] | None = None) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    @property
    def type(self) -> str:
        """The kind of problem, as both APIs call it."""
        return TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")

    def openai(self) -> dict[str, Any]:
        """In the shape of OpenAI's API."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def anthropic(self) -> dict[str, Any]:
        """In the shape of Anthropic's API."""
        return {"type": "error", "error": {"type": self.type, "message": self.message}}


def problem_of(error: Exception) -> Problem:
    """What an error of the library is on the wire; anything unexpected is told to nobody but the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueFull):
        return Problem(429, error.line(), code="queue_full", headers={"Retry-After": "1"})
    if isinstance(error, InputError):
        code = "context_length_exceeded" if "context" in error.facts else None
        return Problem(400, error.line(), code=code)
    if isinstance(error, NotFoundError):
        return Problem(404, error.line(), code="not_found")
    if isinstance(error, ConfigError):
        return Problem(400, error.line())
    if isinstance(error, FormatError | GlassError):
        return Problem(500, error.line())
    return Problem(500, "the server made a mistake; its log has more")
