"""Programs written for Instructor, run through `pageform.compat.instructor` with only the import changed.

`PAGEFORM_COMPAT_MODULE=instructor` runs them through Instructor itself, where that is installed: what a program expects
is then checked against the original. `departs` marks what pageform does differently on purpose, with the reason.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from wire_openai_chat import OpenAIChatWire
from wires import Called, Said

MODULE = os.environ.get("PAGEFORM_COMPAT_MODULE", "pageform.compat.instructor")

WIRE = OpenAIChatWire()


def departs(reason: str) -> Any:
    """Marks a test of ours that Instructor does not pass."""
    return pytest.mark.skipif(MODULE == "instructor", reason=f"Instructor differs: {reason}")


def tool(name: str, arguments: str, **more: Any) -> Said:
    """An answer that calls one tool."""
    return Said(calls=(Called(name, arguments),), **more)
