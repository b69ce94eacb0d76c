"""The help promises values that other layers hold."""

from glassgpt.assistant.conversation import CHAT_SAMPLING, DEFAULT_REPLY_TOKENS
from glassgpt.cli.chat import DEFAULTS
from glassgpt.cli.options import LIBRARY_DEFAULTS
from glassgpt.engine.request import DEFAULT_NEW_TOKENS
from glassgpt.engine.sampling import SamplingSettings


def test_the_help_of_chat_names_the_values_that_chat_uses():
    assert DEFAULTS == CHAT_SAMPLING | {"max_new_tokens": DEFAULT_REPLY_TOKENS}


def test_the_help_of_generate_names_the_values_that_generate_uses():
    plain = SamplingSettings()
    assert {name: getattr(plain, name) for name in LIBRARY_DEFAULTS if name != "max_new_tokens"} | {
        "max_new_tokens": DEFAULT_NEW_TOKENS
    } == LIBRARY_DEFAULTS
