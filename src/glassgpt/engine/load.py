"""`load`: from a name to a model that writes, whatever format it comes in."""

from __future__ import annotations

from pathlib import Path

from glassgpt.core.errors import FormatError, GlassError
from glassgpt.core.threads import thread_budget
from glassgpt.engine.language_model import LanguageModel
from glassgpt.formats.catalog import CATALOG
from glassgpt.formats.checkpoint import SETTINGS_FILE, load_checkpoint
from glassgpt.formats.gguf import read_gguf
from glassgpt.formats.gguf_model import gguf_network
from glassgpt.formats.huggingface import chat_template, huggingface_network
from glassgpt.formats.place import find_model
from glassgpt.model.device import choose_device, choose_precision
from glassgpt.text.template import Template, get_template, recognise
from glassgpt.text.tokenizer import Tokenizer


def load(
    name: str | Path,
    *,
    precision: str = "float32",
    device: str = "cpu",
    template: str | None = None,
    pull_missing: bool = True,
) -> LanguageModel:
    """Load a model.

    Args:
        name: a catalog name ("smollm2"), a checkpoint or Hugging Face folder, a .gguf file, or a hub id "owner/name".
        precision: "float32" or "bfloat16", the type the network computes in.
        device: "cpu", "cuda", "mps" or "auto"; only "cpu" is checked by the tests.
        template: the chat template's name, where the model's own cannot be recognised or another is wanted.
        pull_missing: fetch a catalog or hub model that is not on this machine yet.

    Raises:
        NotFoundError: nothing of that name is known; the nearest catalog name is suggested.
        FetchError: it could not be brought here.
        FormatError: it is damaged or of a kind that cannot be read.
        ConfigError: the precision, device or template is unknown.
    """
    dtype, place = choose_precision(precision), choose_device(device)
    wanted = get_template(template) if template else None
    path = find_model(str(name), pull_missing=pull_missing)
    jinja, saved = None, CATALOG[str(name)].template if str(name) in CATALOG else None
    if path.is_file():
        with read_gguf(path) as file:
            network = gguf_network(file, dtype, thread_budget())
            tokenizer = Tokenizer.from_lists(file.tokenizer_lists())
            jinja = file.get("tokenizer.chat_template", str)
    elif (path / SETTINGS_FILE).is_file():
        checkpoint = load_checkpoint(path, dtype)
        network, tokenizer, saved = checkpoint.network, checkpoint.tokenizer, checkpoint.template or None
    else:
        network = huggingface_network(path, dtype)
        tokenizer, jinja = Tokenizer.from_file(path), chat_template(path)
    if tokenizer.vocab_size > network.config.vocab_size:
        raise FormatError(
            "{name}: the tokenizer has {tokens} entries, the network {rows}",
            hint="The tokenizer belongs to another model.",
            name=name,
            tokens=tokenizer.vocab_size,
            rows=network.config.vocab_size,
        )
    model = LanguageModel(str(name), network.to(place), tokenizer, precision)
    model.chat_template, model.template_error = _choose_template(wanted, saved, jinja, tokenizer, str(name))
    return model


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
