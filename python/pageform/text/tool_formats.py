"""How models write calls of tools, and which of these ways a chat template shows.

hermes    <tool_call>\\n{"name": "f", "arguments": {…}}\\n</tool_call>\\n<tool_call>\\n…      Qwen, Hermes, SmolLM2
mistral   [TOOL_CALLS] [{"name": "f", "arguments": {…}}, …]
args      [TOOL_CALLS]f[ARGS]{…}[TOOL_CALLS]g[ARGS]{…}                                        newer Mistral models
llama3    {"name": "f", "parameters": {…}}; {…}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import ParameterError
from ..core.reasoning import Reasoning


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A call is `before_name` name `after_name` arguments `tail`; `between` stands between two calls, `begin` before
    the first and `close` after the last. A text turns into calls where `trigger` stands, which is how the first call
    begins; with `at_start` only there, and any text that begins with a brace is calls."""

    name: str
    before_name: str
    after_name: str
    tail: str
    trigger: str
    begin: str = ""
    between: str = ""
    close: str = ""
    at_start: bool = False

    def call(self, name: str, arguments: str) -> str:
        """One call as the model writes it; `arguments` is JSON."""
        return f"{self.before_name}{name}{self.after_name}{arguments}{self.tail}"

    def calls(self, calls: list[tuple[str, str]]) -> str:
        """Several of them: pairs of name and arguments."""
        return self.begin + self.between.join(self.call(*one) for one in calls) + self.close


_HERMES = ToolFormat(
    name="hermes",
    before_name='<tool_call>\n{"name": "',
    after_name='", "arguments": ',
    tail="}\n</tool_call>",
    trigger="<tool_call>",
    between="\n",
)
_MISTRAL = ToolFormat(
    name="mistral",
    begin="[TOOL_CALLS] [",
    before_name='{"name": "',
    after_name='", "arguments": ',
    tail="}",
    trigger="[TOOL_CALLS]",
    between=", ",
    close="]",
)
_ARGS = ToolFormat(name="args", before_name="[TOOL_CALLS]", after_name="[ARGS]", tail="", trigger="[TOOL_CALLS]")
_LLAMA3 = ToolFormat(
    name="llama3",
    before_name='{"name": "',
    after_name='", "parameters": ',
    tail="}",
    trigger="{",
    between="; ",
    at_start=True,
)
FORMATS = {one.name: one for one in (_HERMES, _MISTRAL, _ARGS, _LLAMA3)}
"""The ways to write calls, by name."""


def detect_format(template: str | None) -> ToolFormat | None:
    """The format that a chat template shows tools and calls in; None if it takes no tools, or writes calls otherwise
    than any format here."""
    if template is None or "tools" not in template:
        return None
    if "[TOOL_CALLS]" in template:
        if "[ARGS]" in template:
            return _ARGS
        return _MISTRAL if "[TOOL_CALLS] [" in template else replace(_MISTRAL, begin="[TOOL_CALLS][")
    if "<tool_call>" in template and "<function=" not in template and "<arg_key>" not in template:
        return _HERMES
    return _LLAMA3 if '"parameters"' in template and "<tool_call>" not in template else None


def tool_format(given: Any, template: str | None) -> tuple[ToolFormat, bool]:
    """The format that the caller names, or else that of the template, or else Hermes'; and whether the template itself
    shows tools in it. Raises ParameterError."""
    found = detect_format(template)
    if given is None or given == "auto":
        return found or _HERMES, found is not None
    if isinstance(given, ToolFormat):
        return given, given == found
    if not isinstance(given, str) or given not in FORMATS:
        names = ", ".join(map(repr, ("auto", *FORMATS)))
        raise ParameterError("tool_format", given, "is unknown", f"Use one of {names}, or a ToolFormat.")
    if found is not None and found.name == given:
        return found, True
    return FORMATS[given], False


_TAGS = (Reasoning(), Reasoning("[THINK]", "[/THINK]"), Reasoning("<seed:think>", "</seed:think>"))


def detect_reasoning(template: str | None) -> Reasoning:
    """The tags of thoughts in a chat template; those of Qwen and DeepSeek where it shows none."""
    shown = template or ""
    return next((tags for tags in _TAGS if tags.start in shown or tags.end in shown), _TAGS[0])
