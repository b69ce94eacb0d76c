"""A packaged model in other formats; runs in the environment that `peers` makes and imports nothing of glassgpt.

    python _files.py PACKAGED.gguf FOLDER FORMAT ...

Prints {format: path}. All are made from the packaged file at full length (float32), so they hold the same model as
nearly as their bits allow; the packaged file stands for its own format. `huggingface` is a folder of float32 weights
for transformers.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import gguf
import llama_cpp

NEEDS_NO_COPY = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


def write_float32(source: Path, out: Path) -> None:
    """The same model with every tensor in float32: settings and tokenizer copied, values multiplied out."""
    reader, partial = gguf.GGUFReader(source), out.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, reader.fields["general.architecture"].contents())
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, field in reader.fields.items():
        if not name.startswith(NEEDS_NO_COPY):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(out)


def quantize(source: Path, out: Path, name: str) -> None:
    """llama.cpp's own rounding to a format."""
    partial, wanted = out.with_suffix(".partial"), llama_cpp.llama_model_quantize_default_params()
    wanted.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), wanted):
        sys.exit(f"llama.cpp could not make {name} of {source.name}")
    partial.replace(out)


def write_folder(source: Path, out: Path) -> None:
    """The folder that transformers reads quickest, from the same file."""
    import torch
    import transformers

    partial = out.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    kind = transformers.AutoModelForCausalLM
    model = kind.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    model.hf_quantizer = None  # the weights are plain by now, but it is remembered where they came from
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(partial)
    transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(partial)
    partial.rename(out)


def main() -> None:
    source, folder, formats = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    kind = gguf.LlamaFileType(int(gguf.GGUFReader(source).fields["general.file_type"].contents()))
    paths = {kind.name.removeprefix("MOSTLY_"): source}
    full = folder / "F32.gguf"
    if not full.is_file():
        write_float32(source, full)
    for name in formats:
        out = paths.setdefault(name, folder / f"{name}.gguf")
        if not out.is_file():
            quantize(full, out, name)
    paths = {name: paths[name] for name in formats} | {"huggingface": folder / "huggingface"}
    if not paths["huggingface"].is_dir():
        write_folder(source, paths["huggingface"])
    print(json.dumps({name: str(path) for name, path in paths.items()}))


if __name__ == "__main__":
    main()
