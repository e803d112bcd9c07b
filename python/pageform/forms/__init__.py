"""Forms: a response type made ready for decoding: under which grammar, and what validation has yet to check.

A `Plan` and a `Grammar` are immutable and live as long as someone holds them; a `GrammarCompiler` belongs to one engine
and keeps the last grammars and forms. Any thread may compile. A `Matcher` belongs to one sequence and is used by one
thread at a time: the engine's, or the one that fills masks while a step runs. Faults of a type or grammar are found
here, before a request exists, and raise `SchemaError` for that request only.
"""

from .plan import Added, Plan, PlanLimits, Unenforced, plan

__all__ = ["Added", "Plan", "PlanLimits", "Unenforced", "plan"]
