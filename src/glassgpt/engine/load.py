"""`load`: from a name to a model that writes, whatever format it comes in.

On the CPU the engine writes the text, from weights packed in the precision that was asked for; torch is imported only
where a format needs it, or when somebody asks for the network itself. On other devices the network runs in torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.core.errors import ConfigError, FormatError, GlassError
from glassgpt.core.memory import without_collecting
from glassgpt.core.threads import chosen_threads, thread_budget
from glassgpt.engine.engine import Engine, EngineSettings
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.native import warm_up
from glassgpt.engine.network import Network
from glassgpt.engine.packed_file import load_parts, place, save_parts, signature
from glassgpt.engine.packing import BITS, pack
from glassgpt.formats.catalog import CATALOG
from glassgpt.formats.e5_file import is_e5
from glassgpt.formats.place import find_model
from glassgpt.formats.stored import Numbers, Stored, collect
from glassgpt.model.config import ModelConfig
from glassgpt.text.template import Template, get_template, recognise
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glassgpt.model.gpt import GPT

PRECISIONS = ("auto", *BITS)
_IN_TORCH = ("float32", "bfloat16")
_WORTH_KEEPING = 8 << 20  # bytes of packed weights; fewer are packed in no time


@dataclass(frozen=True)
class _Found:
    """A model as a format holds it: its settings, and what gives tensors, tokenizer and the network in torch."""

    config: ModelConfig
    tensors: Callable[[], dict[str, Stored]]
    tokenizer: Callable[[], Tokenizer]
    network: Callable[[str], GPT]
    template: str | None = None
    jinja: str | None = None
    four_bits: bool = False
    checked: bool = False


def load(
    name: str | Path,
    *,
    precision: str = "auto",
    device: str = "cpu",
    template: str | None = None,
    pull_missing: bool = True,
    in_torch: bool = False,
    engine: EngineSettings | None = None,
    draft: str | Path | None = None,
) -> LanguageModel:
    """Load a model.

    Args:
        name: a catalog name ("smollm2"), a checkpoint or Hugging Face folder, a .gguf file, or a hub id "owner/name".
        precision: "float32", "bfloat16", "int8" or "int4", what its weights are kept in. "auto": 4 bits where the file
            has 4, and else 8, which changes the perplexity by less than one in a hundred (docs/performance.md).
        device: "cpu", "cuda", "mps" or "auto"; only "cpu" is checked by the tests, and the others know "float32" (their
            "auto") and "bfloat16" alone.
        template: the chat template's name, where the model's own cannot be recognised or another is wanted.
        pull_missing: fetch a catalog or hub model that is not on this machine yet.
        in_torch: the network in torch is wanted, to train or to measure it; it writes the text too, and "auto" is
            float32.
        engine: how much the engine takes on.
        draft: a smaller model with the same tokenizer, which guesses what this one will write; replies are the same
            with and without, and sooner where it is much smaller and often right.

    Raises:
        NotFoundError: nothing of that name is known; the nearest catalog name is suggested.
        FetchError: it could not be brought here.
        FormatError: it is damaged or of a kind that cannot be read.
        ConfigError: the precision, device or template is unknown, or the draft's tokenizer is another.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            "precision is {name!r}; expected one of {choices}", name=precision, choices=", ".join(PRECISIONS)
        )
    wanted = get_template(template) if template else None
    source = str(name)
    path = find_model(source, pull_missing=pull_missing)
    if is_e5(path):
        raise ConfigError(
            "{name} turns texts into vectors and writes none",
            hint="Give a model that writes; `glassgpt models` lists them.",
            name=source,
        )
    with without_collecting():
        if device == "cpu" and not in_torch:
            warm_up()
            found = _read(path, source, "float32")
            model = _in_engine(source, path, found, precision, engine, draft)
        else:
            if draft is not None:
                raise ConfigError("a draft model is for the engine alone", hint="Leave out --draft, or --device.")
            found = _read(path, source, precision if precision in _IN_TORCH else "float32")
            model = _in_torch(source, found, precision, device)
    model.path = path
    model.chat_template, model.template_error = _choose_template(
        wanted, found.template, found.jinja, model.tokenizer, source
    )
    return model


def load_layout(
    name: str | Path, *, template: str | None = None, pull_missing: bool = True
) -> tuple[Tokenizer, Template | None, int]:
    """What examples for a model are laid out with: its tokenizer, its chat template (None where it has none), and the
    most tokens that it reads. Weights in a .gguf file are not read. Raises GlassError, as `load`."""
    source = str(name)
    found = _read(find_model(source, pull_missing=pull_missing), source, "float32")
    tokenizer, wanted = _tokenizer(source, found), get_template(template) if template else None
    chosen, _ = _choose_template(wanted, found.template, found.jinja, tokenizer, source)
    return tokenizer, chosen, found.config.context_length


def load_networks(
    name: str | Path, precisions: Sequence[str], *, pull_missing: bool = True
) -> tuple[Tokenizer, dict[str, Network]]:
    """A model's tokenizer and its network in each of several precisions, for `engine.runner`, to compare them.

    Args:
        precisions: "float32", "bfloat16", "int8" or "int4".

    Raises:
        GlassError: as `load`.
    """
    for precision in precisions:
        if precision not in BITS:
            raise ConfigError(
                "precision is {name!r}; expected one of {choices}", name=precision, choices=", ".join(BITS)
            )
    source = str(name)
    path = find_model(source, pull_missing=pull_missing)
    with without_collecting():
        found = _read(path, source, "float32")
        tokenizer = _tokenizer(source, found)
    return tokenizer, {precision: _packed(source, path, found, precision) for precision in precisions}


def _tokenizer(source: str, found: _Found) -> Tokenizer:
    """The tokenizer; refuses one with more tokens than the network."""
    tokenizer = found.tokenizer()
    if tokenizer.vocab_size > found.config.vocab_size:
        raise FormatError(
            "{name}: the tokenizer has {tokens} entries, the network {rows}",
            hint="The tokenizer belongs to another model.",
            name=source,
            tokens=tokenizer.vocab_size,
            rows=found.config.vocab_size,
        )
    return tokenizer


def _read(path: Path, source: str, precision: str) -> _Found:
    """What is at a path, in the format that it has; where that needs a network in torch, it is in `precision`."""
    if path.is_file():
        return _read_gguf(path, CATALOG[source].template if source in CATALOG else None)
    _limit_torch()
    from glassgpt.formats.checkpoint import SETTINGS_FILE, load_checkpoint
    from glassgpt.formats.huggingface import chat_template, huggingface_network
    from glassgpt.model.device import choose_precision

    dtype = choose_precision(precision)
    if (path / SETTINGS_FILE).is_file():
        checkpoint = load_checkpoint(path, dtype)
        network, tokenizer, saved, jinja = checkpoint.network, checkpoint.tokenizer, checkpoint.template or None, None
    else:
        network, tokenizer, jinja = huggingface_network(path, dtype), Tokenizer.from_file(path), chat_template(path)
        saved = CATALOG[source].template if source in CATALOG else None

    def in_torch(wanted: str) -> GPT:
        # Read again in another type: converting the network would round its rotary frequencies too.
        return network if wanted == precision else _read(path, source, wanted).network(wanted)

    return _Found(
        network.config, lambda: network_tensors(network), lambda: tokenizer, in_torch, saved, jinja, checked=True
    )


def _read_gguf(path: Path, saved: str | None) -> _Found:
    from glassgpt.formats.gguf import read_gguf
    from glassgpt.formats.gguf_tensors import gguf_config, stored_tensors

    def network(precision: str) -> GPT:
        _limit_torch()
        from glassgpt.formats.gguf_model import gguf_network
        from glassgpt.model.device import choose_precision

        with read_gguf(path) as again:
            return gguf_network(again, choose_precision(precision), thread_budget())

    file = read_gguf(path)  # open as long as its tensors are used; they are views of it
    config = gguf_config(file)
    tensors = collect(config, stored_tensors(file, config), path.name)
    lists = file.tokenizer_lists()
    four_bits = any(tensor.kind.startswith("Q4_") for tensor in tensors.values())
    return _Found(
        config,
        lambda: tensors,
        lambda: Tokenizer.from_lists(lists),
        network,
        saved,
        file.get("tokenizer.chat_template", str),
        four_bits,
    )


def network_tensors(network: GPT) -> dict[str, Stored]:
    """The weights of a network in torch, for the engine."""
    return {name: Numbers(weights.detach().float().cpu().numpy()) for name, weights in network.named_parameters()}


def _in_engine(
    name: str, path: Path, found: _Found, precision: str, settings: EngineSettings | None, draft: str | Path | None
) -> LanguageModel:
    if precision == "auto":
        precision = _fastest(found)

    # Packing finds numbers that are none; a network in torch has been looked through already. What was kept is read
    # ahead while the tokenizer is made.
    packed = None if found.checked else _packed(name, path, found, precision)
    tokenizer = _tokenizer(name, found)
    smaller = _draft_network(str(draft), name, tokenizer) if draft is not None else None
    plain = precision if precision in _IN_TORCH else "float32"
    return LanguageModel(name, lambda: found.network(plain), tokenizer, precision, config=found.config,
                         engine=lambda: Engine(packed or _packed(name, path, found, precision), tokenizer,
                                               settings, smaller))  # fmt: skip


def _fastest(found: _Found) -> str:
    """The precision of "auto"."""
    return "int4" if found.four_bits else "int8"


def _draft_network(name: str, other: str, tokenizer: Tokenizer) -> Network:
    """A network that guesses for a model with this tokenizer."""
    path = find_model(name, pull_missing=True)
    found = _read(path, name, "float32")
    if not _tokenizer(name, found).same_tokens(tokenizer):
        raise ConfigError(
            "the draft model {name} has another tokenizer than {model}",
            hint="Take a smaller model of the same family.",
            name=name,
            model=other,
        )
    return _packed(name, path, found, _fastest(found))


def _packed(name: str, path: Path, found: _Found, precision: str) -> Network:
    """The network in a precision. Quantising takes a second or several, so its result is kept and mapped the next time;
    wide weights are their own source."""
    keep = precision in ("int8", "int4")
    fits = signature(path, precision) if keep else {}
    parts = load_parts(place(path, precision), fits) if keep else None
    if parts is None:
        parts = pack(found.config, found.tensors(), precision, name, thread_budget())
        if keep and sum(part.nbytes for part in parts.values()) >= _WORTH_KEEPING:
            with contextlib.suppress(OSError):  # no room, no right: the next start packs again
                save_parts(place(path, precision), parts, fits)
    return Network(found.config, parts, precision)


def _in_torch(name: str, found: _Found, precision: str, device: str) -> LanguageModel:
    from glassgpt.model.device import choose_device

    if precision not in ("auto", *_IN_TORCH):
        raise ConfigError(
            "precision {name!r} is for the CPU alone", hint="Use float32 or bfloat16, or leave out --device.",
            name=precision,
        )  # fmt: skip
    precision = "float32" if precision == "auto" else precision
    network = found.network(precision).to(choose_device(device))
    return LanguageModel(name, network, _tokenizer(name, found), precision)


def _limit_torch() -> None:
    """torch computes with the threads that were chosen, if any were."""
    threads = chosen_threads()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _choose_template(
    wanted: Template | None, saved: str | None, jinja: str | None, tokenizer: Tokenizer, name: str
) -> tuple[Template | None, GlassError | None]:
    """The template asked for, or the one on record, or the one recognised; with the reason where there is none."""
    if wanted is not None:
        return wanted, None
    if saved:
        return get_template(saved), None
    try:
        return recognise(jinja, tokenizer, name=name), None
    except GlassError as error:
        return None, error
