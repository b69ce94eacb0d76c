"""Calls of functions, glassgpt beside transformers on the same file: the Berkeley Function-Calling Leaderboard's
"simple" questions, each with one function that has to be called.

    python -m benchmarks.tool_calls --data FOLDER [--items N] [--model smollm2] [--json FILE]

FOLDER holds bfcl_v4_simple_python.jsonl and bfcl_v4_simple_python_answers.jsonl. Both sides get the same messages (the
function is told in the system message) and choose the likeliest token each time. glassgpt's call is held to the
function's schema; transformers writes freely, and the call is read from its text: from `<tool_call>` if it stands
there, or else from the first brace. Arguments are right by the leaderboard's rule: each is among the answers that are
listed for it, texts without regard to capitals, spaces and punctuation, and one may be left out where that is listed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

import glassgpt
from glassgpt.assistant.calling import CALL, END_CALL, ToolDescription, next_step, tools_text, with_instructions
from glassgpt.core.errors import ConfigError
from glassgpt.core.files import write_whole
from glassgpt.core.threads import thread_budget
from glassgpt.formats.fetch import locate

NAME = "bfcl_v4_simple_python"
NEW_TOKENS = 128
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_KEPT = ("description", "enum", "default", "required")


@dataclass
class Item:
    """A question, its function, and {name: {parameter: answers}}."""

    id: str
    messages: list[Any]
    function: ToolDescription
    wanted: dict[str, dict[str, list[Any]]]


@dataclass
class Score:
    """How many of the items; `wrong` has the id of each that is not right, and what was written."""

    items: int = 0
    calls: int = 0
    valid: int = 0
    function: int = 0
    right: int = 0
    refused: int = 0
    seconds: float = 0.0
    wrong: dict[str, str] = field(default_factory=dict)


def schema_of(node: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard's description of a parameter, as JSON schema."""
    found: dict[str, Any] = {key: node[key] for key in _KEPT if key in node}
    if node.get("type") != "any":
        found["type"] = _TYPES.get(node["type"], node["type"])
    if "properties" in node:
        found["properties"] = {name: schema_of(child) for name, child in node["properties"].items()}
        found["additionalProperties"] = False
    if "items" in node:
        found["items"] = schema_of(node["items"])
        if "enum" in found:  # it is written beside a list, and meant for what stands in it
            found["items"]["enum"] = found.pop("enum")
    return found


def read_items(folder: Path, count: int | None) -> list[Item]:
    """The items of the two files, in their order."""
    lines = (folder / f"{NAME}.jsonl").read_text(encoding="utf-8").splitlines()
    answers = (folder / f"{NAME}_answers.jsonl").read_text(encoding="utf-8").splitlines()
    wanted = {one["id"]: one["ground_truth"][0] for one in map(json.loads, answers)}
    items = []
    for one in map(json.loads, lines[:count]):
        described = one["function"][0]
        function = ToolDescription(described["name"], described["description"], schema_of(described["parameters"]))
        items.append(Item(one["id"], one["question"][0], function, wanted[one["id"]]))
    return items


def same(given: Any, answer: Any) -> bool:
    """Whether a value is the one that is listed."""
    if isinstance(given, str) and isinstance(answer, str):
        return _plain(given) == _plain(answer)
    if isinstance(given, bool) or isinstance(answer, bool):
        return given is answer
    if isinstance(given, dict) and isinstance(answer, dict):
        return right_arguments(given, answer)
    if isinstance(given, list) and isinstance(answer, list):
        return len(given) == len(answer) and all(map(same, given, answer))
    return type(given) in (int, float, type(None)) and given == answer


def right_arguments(given: dict[str, Any], wanted: dict[str, list[Any]]) -> bool:
    """Each argument is among its answers; one that is not given may be left out ("" is among its answers)."""
    known = all(name in wanted and any(same(value, one) for one in wanted[name]) for name, value in given.items())
    return known and all(name in given or "" in answers for name, answers in wanted.items())


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


def call_in(text: str) -> dict[str, Any] | None:
    """The first call in a free text; None where there is none that can be read."""
    start = text.find("{", max(text.find(CALL), 0))
    try:
        found = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else None
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("arguments"), dict):
        return None
    return found if isinstance(found.get("name"), str) else None


def judge(items: Iterable[Item], write: Callable[[Item], str]) -> Score:
    """Has every call written, and looks at it."""
    score = Score()
    for item in items:
        began = time.perf_counter()
        try:
            text = write(item)
        except ConfigError as error:  # a schema that text cannot be held to
            text, score.refused = str(error), score.refused + 1
        score.seconds += time.perf_counter() - began
        score.items += 1
        call, right = call_in(text), False
        if call is not None:
            named = call["name"] == item.function.name
            check = jsonschema.Draft202012Validator(item.function.parameters)
            score.calls += 1
            score.valid += named and check.is_valid(call["arguments"])
            score.function += named
            right = named and right_arguments(call["arguments"], item.wanted[item.function.name])
            score.right += right
        if not right:
            score.wrong[item.id] = text
        print(f"\r{score.items}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return score


def ours(name: str, precision: str | None) -> Callable[[Item], str]:
    """glassgpt's calls."""
    model = glassgpt.load(name, **({"precision": precision} if precision else {}))

    def write(item: Item) -> str:
        step = next_step(
            model, item.messages, [item.function], "required", max_new_tokens=NEW_TOKENS, temperature=0, seed=0
        )
        if step.call is None:
            return ""
        return json.dumps({"name": step.call.name, "arguments": json.loads(step.call.arguments)}, ensure_ascii=False)

    return write


def theirs(name: str) -> Callable[[Item], str]:
    """The text of transformers' `generate`, from the same file in float32."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(thread_budget())
    path = locate(name, pull_missing=True)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    kind: Any = transformers.AutoModelForCausalLM
    model = kind.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()

    def write(item: Item) -> str:
        messages = with_instructions(item.messages, tools_text([item.function]))
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
                             eos_token_id=tokenizer.eos_token_id, pad_token_id=0, stop_strings=[END_CALL],
                             tokenizer=tokenizer)  # fmt: skip
        return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).split(END_CALL)[0]

    return write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tool_calls")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the leaderboard's two files")
    parser.add_argument("--items", type=int, help="how many of the questions; all unless given")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--precision", help="of glassgpt's weights; the model's usual one unless given")
    parser.add_argument("--without-transformers", action="store_true")
    parser.add_argument("--json", type=Path, help="a file for the raw numbers")
    args = parser.parse_args()
    items = read_items(args.data, args.items)
    sides = {"glassgpt": lambda: ours(args.model, args.precision)}
    if not args.without_transformers:
        sides["transformers"] = lambda: theirs(args.model)
    print(f"{args.model}, {len(items)} questions, {NEW_TOKENS} tokens at most\n")
    print("| | calls | fit the schema | right function | right arguments | s a question |")
    print("|---|---:|---:|---:|---:|---:|")
    kept = {}
    for who, made in sides.items():
        score = judge(items, made())
        kept[who] = asdict(score)
        count = score.items
        print(f"| {who} | {score.calls} of {count} | {score.valid} of {score.calls} | {score.function / count:.1%} | "
              f"{score.right / count:.1%} | {score.seconds / count:.2f} |", flush=True)  # fmt: skip
        if score.refused:
            print(f"\n{score.refused} schemas could not be held to", file=sys.stderr)
    if args.json:
        write_whole(args.json, json.dumps(kept, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
