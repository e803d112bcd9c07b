"""Keeps docs/structures.md a true list of the modules: one line a module, none missing, none that no longer exists.

    python ci/check_structures.py           fails and says what is missing or gone
    python ci/check_structures.py --write   drops lines of modules that are gone and adds missing ones, described by the
                                            first sentence of their docstring or leading comment; then read them over

A module is a Python file, or a C++ header and its source together (named without suffix). A folder's `__init__.py` is
listed as the folder. Tests are not listed.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

from sources import tracked

PAGE = Path("docs/structures.md")
FOLDERS = ("python/pageform", "csrc", "examples", "benchmarks", "ci")
LINE = re.compile(r"^- `(?P<name>[^`]+)` — (?P<text>.+)$")
INTRODUCTION = """\
# Structures

One line a module: what it holds. `ci/check_structures.py` keeps the list complete. A C++ name stands for its header and
its source.
"""


def modules() -> dict[str, Path]:
    """Name on the page → the file that describes it."""
    found: dict[str, Path] = {}
    for path in tracked(".py", ".h", ".cpp", ".cu"):
        name = path.as_posix()
        if not name.startswith(tuple(folder + "/" for folder in FOLDERS)):
            continue
        if path.suffix == ".py":
            found[name.removesuffix("__init__.py")] = path
        elif path.suffix == ".h" or name.rsplit(".", 1)[0] not in found:
            found[name.rsplit(".", 1)[0]] = path
    return found


def describe(path: Path) -> str:
    """The first sentence of a Python docstring or of a C++ file's leading comment; empty when there is none."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(source)) or ""
    else:
        leading = re.match(r"(?://[^\n]*\n)*", source)
        text = "\n".join(line.lstrip("/ ") for line in (leading.group() if leading else "").splitlines())
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.match(r".+?\.(?= |$)", paragraph)
    return (sentence.group() if sentence else paragraph).rstrip(".:")


def listed() -> dict[str, str]:
    """Name → text of each line of the page that says something."""
    if not PAGE.exists():
        return {}
    lines = (LINE.match(line) for line in PAGE.read_text(encoding="utf-8").splitlines())
    return {line["name"]: line["text"] for line in lines if line and line["text"] != "?"}


def page(entries: dict[str, str]) -> str:
    """The whole page: a section a folder, in order of the names."""
    parts = [INTRODUCTION]
    section = None
    for name in sorted(entries, key=lambda name: (folder_of(name), name)):
        if folder_of(name) != section:
            section = folder_of(name)
            parts.append(f"\n## {section}\n")
        parts.append(f"- `{name}` — {entries[name]}\n")
    return "".join(parts)


def folder_of(name: str) -> str:
    return name.rstrip("/") if name.endswith("/") else name.rsplit("/", 1)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="mend the page instead of failing")
    write = parser.parse_args().write
    existing, lines = modules(), listed()
    if write:
        entries = {name: lines.get(name) or describe(path) or "?" for name, path in existing.items()}
        PAGE.write_text(page(entries), encoding="utf-8")
        lines = listed()
    missing, gone = sorted(existing.keys() - lines.keys()), sorted(lines.keys() - existing.keys())
    for problem, names in (("not described", missing), ("described but gone", gone)):
        for name in names:
            print(f"{PAGE}: {name}: {problem}")
    return 1 if missing or gone else 0


if __name__ == "__main__":
    sys.exit(main())
