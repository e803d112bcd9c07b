"""ALIGN: JSON that nearly fits a response type is made to fit, with a cost and a log.

`Aligner(outline, leniency).fit(value)` gives the value as the type wants it, what that cost, and the faults that
remain.
Nothing is validated here and nothing is invented: what no rule explains stays as it is, for Pydantic to judge.
"""

from .aligner import Aligner
from .fit import Fit, Mismatch, TooManySteps
from .ignored import ignored_keys
from .outline import Outline, outline_of

__all__ = ["Aligner", "Fit", "Mismatch", "Outline", "TooManySteps", "ignored_keys", "outline_of"]
