"""What a value has that its type does not."""

from __future__ import annotations

import json
from typing import Any

from ..json_tree import Number, Path
from ..leniency import Leniency
from ..repair import deeper_than
from ..spec import Spec
from .aligner import Aligner
from .fit import TooManySteps
from .outline import outline_of


def ignored_keys(text: str, spec: Spec[Any]) -> tuple[Path, ...]:
    """Where valid JSON of a type has keys that the type does not have."""
    leniency = Leniency(False, False, {"extra"})
    try:
        tree = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)
        if deeper_than(tree, leniency.max_depth):
            return ()
        fit = Aligner(outline_of(spec), leniency, 50_000 + len(text)).fit(tree)
    except (ValueError, RecursionError, TooManySteps):
        return ()
    return tuple(entry.path for entry in fit.log if entry.rule == "extra")
