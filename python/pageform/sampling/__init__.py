"""From sampling parameters to what a row of logits needs in a step.

Owns nothing that outlives a request: `RowState` belongs to one request and is advanced with its tokens; everything else
is functions. The native `sample` op does the arithmetic.
"""

from .drafts import Odds, RequestDrafter
from .limits import ModelLimits, check_against_model
from .rows import RowState, ends_in_repetition, resolve, token_bitmask

__all__ = [
    "ModelLimits",
    "Odds",
    "RequestDrafter",
    "RowState",
    "check_against_model",
    "ends_in_repetition",
    "resolve",
    "token_bitmask",
]
