"""Writes csrc/json/json_table.h from the table that the Python JSON machine runs on; with --check, compares them.

python ci/generate_json_table.py            writes the header
python ci/generate_json_table.py --check    fails when the header is not what this would write
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "python/pageform/structured/json_table.py"
HEADER = ROOT / "csrc/json/json_table.h"
WIDTH = 118
CONSTANT = "inline constexpr"


def main() -> int:
    text = header(load())
    if "--check" not in sys.argv[1:]:
        HEADER.write_text(text, encoding="utf-8")
        return 0
    if HEADER.read_text(encoding="utf-8") != text:
        print(f"{HEADER.relative_to(ROOT)} is not made from {SOURCE.relative_to(ROOT)}: run ci/generate_json_table.py")
        return 1
    return 0


def load() -> ModuleType:
    """The module with the table, without the package around it (which needs Pydantic)."""
    spec = importlib.util.spec_from_file_location("json_table", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def header(table: ModuleType) -> str:
    """The text of the header. Bytes that no state tells apart share a class, so the table is a tenth of the size."""
    rows, transitions = table.TABLE
    columns = [bytes(row[byte] for row in rows) for byte in range(256)]
    classes = list(dict.fromkeys(columns))
    states = [camel(name) for name in table.STATES]
    cells = [f"{{{state}, {action}}}" for state, action in transitions]
    table_rows: list[str] = []
    for name, row in zip(states, rows, strict=True):
        by_class = [cells[row[columns.index(column)]] for column in classes]
        table_rows += [f"  {{  // {name}", *wrapped(by_class, "   "), "  },"]
    escapes = [f"{{{ord(letter)}, {ord(meaning)}}}" for letter, meaning in table.ESCAPES.items()]
    expected = [f'  "{words}",  // {name}' for name, words in zip(states, table.EXPECTED, strict=True)]
    return "\n".join(
        [
            "// The automaton of JSON text: bytes x states -> next state and action. Made by ci/generate_json_table.py",
            "// from structured/json_table.py, which says what it means: change that, never this.",
            "#pragma once",
            "#include <cstddef>",
            "#include <cstdint>",
            "",
            "// clang-format off",
            "namespace pf::json {",
            "",
            f"inline constexpr size_t kMaxDepth = {table.MAX_DEPTH};",
            f"inline constexpr size_t kStates = {len(rows)}, kByteClasses = {len(classes)};",
            "",
            *array("enum class EventKind : uint8_t", wrapped(list(map(camel, table.EVENTS)))),
            *array("enum class Action : uint8_t", wrapped(list(map(camel, table.ACTIONS)))),
            *array("enum class State : uint8_t", wrapped(states)),
            *array("struct Transition", ["  uint8_t state, action;"]),
            *array(f"{CONSTANT} uint8_t kByteClass[256] =", wrapped([str(classes.index(c)) for c in columns])),
            *array(f"{CONSTANT} Transition kTransitions[kStates][kByteClasses] =", table_rows),
            "// By state: inside an escape or a character of several bytes; inside a number or word; a number may end.",
            *array(f"{CONSTANT} bool kInUnit[kStates] =", wrapped(list(map(boolean, table.IN_UNIT)))),
            *array(f"{CONSTANT} bool kInScalar[kStates] =", wrapped(list(map(boolean, table.IN_SCALAR)))),
            *array(f"{CONSTANT} bool kEndsNumber[kStates] =", wrapped(list(map(boolean, table.ENDS_NUMBER)))),
            "// What each state waits for, in words for error messages.",
            *array(f"{CONSTANT} const char* kExpected[kStates] =", expected),
            "// The one-letter escapes and the bytes that they stand for.",
            *array("struct Escape", ["  char letter, byte;"]),
            *array(f"{CONSTANT} Escape kEscapes[] =", wrapped(escapes)),
            "}  // namespace pf::json",
            "// clang-format on",
            "",
        ]
    )


def array(declaration: str, lines: list[str]) -> list[str]:
    """A declaration with its lines in braces."""
    return [f"{declaration} {{", *lines, "};", ""]


def boolean(flag: bool) -> str:
    """`true` or `false`."""
    return str(flag).lower()


def camel(name: str) -> str:
    """kLikeThis; the letters of a word stay as they are."""
    if name.startswith("WORD_"):
        return "kWord_" + name.removeprefix("WORD_")
    return "k" + "".join(part.capitalize() for part in name.split("_"))


def wrapped(items: list[str], indent: str = " ") -> list[str]:
    """The items with commas, in lines of bounded width."""
    lines = [indent]
    for item in items:
        if len(lines[-1]) + len(item) + 2 > WIDTH:
            lines.append(indent)
        lines[-1] += f" {item},"
    return lines


if __name__ == "__main__":
    sys.exit(main())
