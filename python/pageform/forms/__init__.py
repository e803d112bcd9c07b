"""Forms: a response type made ready for decoding: under which grammar, and what validation has yet to check.

A `Plan` and a `Grammar` are immutable and live as long as someone holds them; a `GrammarCompiler` belongs to one engine
and keeps the last grammars and forms. Any thread may compile. A `Matcher` belongs to one sequence and is used by one
thread at a time: the engine's, or the one that fills masks while a step runs. Faults of a type or grammar are found
here, before a request exists, and raise `SchemaError` for that request only.
"""

from typing import TYPE_CHECKING, Any

from .compiling import compile  # what the field calls it
from .plan import Added, Plan, PlanLimits, Unenforced, plan

if TYPE_CHECKING:
    from .form import Form

__all__ = ["Added", "Form", "Plan", "PlanLimits", "Unenforced", "compile", "plan"]


def __getattr__(name: str) -> Any:
    """`Form` is imported when it is first asked for: it needs numpy, which a plan does not."""
    if name == "Form":
        from .form import Form

        return Form
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
