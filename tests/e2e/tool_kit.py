"""Tools, and a tiny model with a chat template, for the tests of tool calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from tiny import write_tiny_llama

from pageform import Completion, SamplingParams

ASK = [{"role": "user", "content": "What is the weather in Rome, in celsius?"}]
GREEDY = SamplingParams(temperature=0.0, max_tokens=60)
DRAWN = SamplingParams(temperature=1.0, seed=3, max_tokens=160)
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class Weather(BaseModel):
    """The weather in a city."""

    city: str = Field(max_length=12)
    unit: Literal["celsius", "fahrenheit"]


def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {"type": "object", "properties": {"q": {"type": "string", "maxLength": 8}}, "required": ["q"]},
    },
}
TOOLS = [Weather, add, SEARCH]
TYPES: dict[str, type] = {"Weather": Weather, "add": dict, "search": dict}


def write_tiny_chat(folder: Path, template: str = TEMPLATE) -> Path:
    """A tiny checkpoint with a chat template, and room for the schemas of tools, which are bytes to it."""
    write_tiny_llama(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "</s>"}))
    return folder


def check(completion: Completion) -> None:
    """Calls have ids and validated arguments."""
    for call in completion.tool_calls:
        assert isinstance(call.arguments, TYPES[call.name])
        assert len(call.id) == 9
    assert len({call.id for call in completion.tool_calls}) == len(completion.tool_calls)
