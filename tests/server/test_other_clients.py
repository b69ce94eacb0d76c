"""LangChain, the `llm` command and curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_langchain_talks_streams_and_binds_tools(server):
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model="smollm2", base_url=server.url + "/v1", api_key=server.key, temperature=0, max_retries=0,
                      max_tokens=20)  # fmt: skip
    whole = chat.invoke([("system", "Be brief."), ("human", "Say hello.")])
    assert whole.content and whole.usage_metadata["output_tokens"] <= 20
    assert "".join(c.content for c in chat.stream([("system", "Be brief."), ("human", "Say hello.")])) == whole.content

    @tool
    def order_status(order: int) -> str:
        """Where an order is."""
        return f"order {order} is on its way"

    called = chat.bind_tools([order_status], tool_choice="any").invoke("Where is order 17?")
    assert called.tool_calls[0]["name"] == "order_status" and isinstance(called.tool_calls[0]["args"]["order"], int)


def test_the_llm_command(server, tmp_path: Path):
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: mine\n  model_name: smollm2\n  api_base: {server.url}/v1\n  api_key_name: mine\n"
    )
    env = os.environ | {"LLM_USER_PATH": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    words = [str(Path(sys.executable).parent / "llm"), "-m", "mine", "--key", server.key, "-o", "max_tokens", "12"]
    for more in ([], ["--no-stream"]):
        done = subprocess.run([*words, *more, "Say hello."], capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_curl(server):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    body = json.dumps({"model": "smollm2", "messages": [{"role": "user", "content": "你好"}], "max_tokens": 8,
                       "stream": True})  # fmt: skip
    words = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        f"{server.url}/v1/chat/completions",
        "-H",
        f"Authorization: Bearer {server.key}",
        "-d",
        body,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stdout.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: {") for line in lines[:-1])
