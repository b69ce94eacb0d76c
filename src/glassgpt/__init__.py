"""glassgpt: a whole ChatGPT in Python with glass walls.

The names below are the public face. They are imported when they are first used, so that `import glassgpt` and
`glassgpt --help` are quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgpt.assistant.conversation import Chat, Reply
    from glassgpt.assistant.tool import Tool, tool
    from glassgpt.core.errors import GlassError
    from glassgpt.engine.language_model import Completion, LanguageModel
    from glassgpt.engine.load import load
    from glassgpt.engine.sampling import SamplingSettings
    from glassgpt.evaluation.perplexity import perplexity
    from glassgpt.inside.trace import Trace, run_with_trace
    from glassgpt.model.attention import SelfAttention
    from glassgpt.model.config import ModelConfig
    from glassgpt.model.gpt import GPT
    from glassgpt.model.positions import PositionalEncoding
    from glassgpt.model.transformer import Transformer

__version__ = "0.1.0"

_HOMES = {
    "Chat": "assistant.conversation",
    "Completion": "engine.language_model",
    "GPT": "model.gpt",
    "GlassError": "core.errors",
    "LanguageModel": "engine.language_model",
    "ModelConfig": "model.config",
    "PositionalEncoding": "model.positions",
    "Reply": "assistant.conversation",
    "SamplingSettings": "engine.sampling",
    "SelfAttention": "model.attention",
    "Tool": "assistant.tool",
    "Trace": "inside.trace",
    "Transformer": "model.transformer",
    "load": "engine.load",
    "perplexity": "evaluation.perplexity",
    "run_with_trace": "inside.trace",
    "tool": "assistant.tool",
}

__all__ = [
    "GPT",
    "Chat",
    "Completion",
    "GlassError",
    "LanguageModel",
    "ModelConfig",
    "PositionalEncoding",
    "Reply",
    "SamplingSettings",
    "SelfAttention",
    "Tool",
    "Trace",
    "Transformer",
    "load",
    "perplexity",
    "run_with_trace",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glassgpt' has no attribute {name!r}")
    return getattr(import_module(f"glassgpt.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
