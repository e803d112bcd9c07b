"""What a call may be told besides the SDK's own arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..core.errors import ParameterError
from ..media.guard import Guard
from ..structured.answer import Mode
from ..structured.errors import ModeError
from ..structured.hooks import Hooks
from ..structured.leniency import Leniency
from ..structured.loop import Accumulate
from ..structured.policy import Backoff, Limits, Policy, policy_of
from .endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Options:
    """See `Client` for what they mean; None stands for what is usual."""

    mode: Mode | str | None = None
    max_retries: Any = None
    backoff: Backoff | bool | None = None
    context: Any = None
    strict: bool | None = None
    strict_schema: bool | None = None
    hooks: Any = None
    token_budget: int | None = None
    leniency: Any = None
    accumulate: Accumulate | None = None
    cache: Any = None
    cache_ttl: float | None = None
    cache_namespace: str | None = None
    autodetect_images: bool | None = None
    strict_templates: bool | None = None
    guard: Guard | None = None

    def over(self, others: Options) -> Options:
        """These options, and the others' where these have none; hooks of both."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        merged = replace(others, **{name: value for name, value in mine.items() if value is not None})
        return replace(merged, hooks=Hooks.of(others.hooks) + Hooks.of(self.hooks))

    @property
    def policy(self) -> Policy:
        """When to ask again."""
        return policy_of(3 if self.max_retries is None else self.max_retries, self.backoff)

    @property
    def layers(self) -> Leniency:
        """How far from plain JSON an answer may be. Who asks for strict validation gets broken JSON mended, but no
        value changed."""
        if self.leniency is None:
            return Leniency(align=False) if self.strict else Leniency()
        return Leniency.of(self.leniency)

    def limits(self, timeout: Any) -> Limits:
        """What bounds all attempts together. A timeout that is no number is the SDK's affair."""
        seconds = timeout if isinstance(timeout, (int, float)) and not isinstance(timeout, bool) else None
        return Limits(seconds, self.token_budget)

    def mode_of(self, endpoint: Endpoint) -> Mode:
        """The mode to use; the endpoint's first if none was asked for."""
        known = {str(mode): mode for mode in endpoint.modes}
        if self.mode is None:
            return endpoint.modes[0]
        if self.mode not in known:
            raise ModeError("mode", self.mode, f"{endpoint.name} has no such mode", f"Use one of {', '.join(known)}.")
        return known[self.mode]

    def refuse_without_type(self) -> None:
        """Raises for options that mean nothing to a call without a response type."""
        for field in fields(self):
            if getattr(self, field.name) is not None:
                reason, remedy = "it needs a response_model", "Give one, or leave it out to call the SDK as it is."
                raise ParameterError(field.name, getattr(self, field.name), reason, remedy)


def split(kwargs: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The options among keyword arguments, and the others."""
    names = {field.name for field in fields(Options)}
    own = {name: value for name, value in kwargs.items() if name in names}
    return Options(**own), {name: value for name, value in kwargs.items() if name not in names}
