"""What a caller wrote into a conversation, made into what a provider takes.

In this order: media are told from text, templates are rendered, media are encoded. Media come first, so that no value
of a template's context becomes a file that is read or a URL that is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..media.detect import detect_messages
from ..media.guard import Guard
from ..templating.messages import CONVERSATION, render_kwargs
from .encode import Wire, encode_kwargs, fetches


def resolve(
    kwargs: Mapping[str, Any],
    wire: Wire,
    context: Any = None,
    detects: bool = False,
    strict: bool = True,
    guard: Guard | None = None,
) -> dict[str, Any]:
    """An SDK's kwargs whose conversation holds nothing but plain parts of the wire format; new messages where something
    changed.

    A `context` that is a mapping makes templates of texts (`templating.messages`); `detects` says that strings which
    are media count as such (`media.detect`); `strict`, that unknown variables of templates are errors; `guard` is for
    what is fetched. May read files and fetch: see `waits`. Raises MessageTemplateError,
    MediaError and what `encode_kwargs` raises.
    """
    seen = dict(kwargs)
    if detects:
        seen |= {
            name: detect_messages(seen[name]) for name in CONVERSATION if isinstance(seen.get(name), (list, tuple))
        }
    return encode_kwargs(render_kwargs(seen, context, strict=strict), wire, guard)


def waits(kwargs: Mapping[str, Any], wire: Wire, context: Any = None, detects: bool = False) -> bool:
    """Whether `resolve` may take long: async callers let it run in a thread then. Templates are code: a few may spend
    seconds before their budget ends them."""
    return detects or bool(context) or fetches(kwargs, wire)
