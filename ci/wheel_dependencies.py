"""What a built wheel depends on: the libraries of the engine only if it holds one.

Called by scikit-build-core for the field `dependencies`, with the two lists of pyproject.toml. PAGEFORM_BACKENDS=none
in the environment builds the wheel without native parts, which serves clients of other providers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, list[str]]:
    """The list `always`, and `engine` unless the wheel is built without one."""
    pure = os.environ.get("PAGEFORM_BACKENDS") == "none"
    return {"dependencies": [*settings["always"], *(() if pure else settings["engine"])]}


def dynamic_wheel(settings: Mapping[str, Any]) -> dict[str, bool]:
    """Tells readers of the source distribution that a wheel made of it may depend on other libraries."""
    return {"dependencies": True}
