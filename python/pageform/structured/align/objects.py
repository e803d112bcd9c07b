"""Which key of an object is meant by which key of the text, and what an envelope holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..json_tree import Repair, repair
from .outline import NAMES, THROUGH
from .words import squeezed, typo

_HOLDERS = (
    "answer result results response output tasks data value values json final final_answer item items list content "
    "object arguments args parameters params input inputs kwargs function function_call tool_calls tool_call tool "
    "tool_input properties payload record records entity entities extracted extraction structured_output"
)
HOLDERS = frozenset(squeezed(word) for word in _HOLDERS.split())
"""Keys whose value may be the answer itself."""

_ENVELOPE = (
    "name type id index object role status tool tool_name function function_name call_id recipient_name success "
    "required title description count total page $schema additionalProperties finish_reason error"
)
ENVELOPE = frozenset(squeezed(word) for word in _ENVELOPE.split())
"""Keys that say something of the answer beside it, and may go with the envelope."""

CALLED = ("name", "tool", "tool_name", "function_name", "type")
"""Keys of an envelope that name the type of its content."""


_MOST_TYPOS = 100
"""Unknown keys among which misspellings are looked for."""


class Keys(NamedTuple):
    """Which key stands for which property; keys that stand for none; and what had to be changed."""

    properties: dict[str, str]
    others: dict[str, None]
    log: list[Repair]
    clash: str | None


def match_keys(value: Mapping[str, Any], node: Mapping[str, Any], rules: frozenset[str]) -> Keys:
    """Find the property that each key means: the same key, another name, another style, a misspelling, in turn."""
    properties: Mapping[str, Any] = node.get("properties", {})
    names: Mapping[str, str] = node.get(NAMES, {})
    through = node.get(THROUGH, ())
    taken = {key: key for key in value if key in properties}
    others = dict.fromkeys(key for key in value if key not in properties and key not in through)
    log: list[Repair] = []
    free = {name for name in properties if name not in taken}
    spelt: dict[str, list[str]] = {}
    for name in properties:
        spelt.setdefault(squeezed(name), []).append(name)
    for name, target in names.items():
        if target not in spelt.setdefault(squeezed(name), []):
            spelt[squeezed(name)].append(target)

    def typos(key: str) -> list[str]:
        return [name for name in free if typo(squeezed(key), squeezed(name))]

    finders: dict[str, Callable[[str], list[str]]] = {
        "alias": lambda key: [names[key]] if key in names else [],
        "key_style": lambda key: spelt.get(squeezed(key), []),
        "key_typo": typos,
    }
    for rule, find in finders.items():
        if rule not in rules or (rule == "key_typo" and len(others) > _MOST_TYPOS):
            continue
        wanted: dict[str, list[str]] = {}
        for key in others:
            found = [name for name in find(key) if name in free]
            if len(found) == 1:
                wanted.setdefault(found[0], []).append(key)
        for name, keys in wanted.items():
            if len(keys) > 1:
                return Keys(taken, others, log, f"{' and '.join(map(repr, keys))} both stand for {name!r}")
            taken[keys[0]] = name
            log.append(repair(rule, (name,), keys[0], name))
            del others[keys[0]]
            free.discard(name)
    return Keys(taken, others, log, None)


def contents(
    value: Mapping[str, Any], title: str, titles: frozenset[str]
) -> Iterator[tuple[str, Any, tuple[Repair, ...], float]]:
    """What an object may be an envelope of: key, content, what goes with the envelope, and what that costs.

    `title` is the class that is wanted, `titles` are all of the type: an envelope that names another holds another.
    """
    named = {squeezed(str(value[key])) for key in CALLED if isinstance(value.get(key), str)}
    wanted = squeezed(title)
    if named & titles and wanted and wanted not in named:
        return
    containers = sum(isinstance(content, (dict, list)) for content in value.values())
    for key, content in value.items():
        squeezed_key = squeezed(key)
        only = len(value) == 1 or (containers == 1 and isinstance(content, (dict, list)))
        if not only and squeezed_key not in HOLDERS and squeezed_key != wanted:
            continue
        log = [repair("wrapper", (), key, "")]
        cost = log[0].cost - (0.5 if wanted and (wanted in named or squeezed_key == wanted) else 0)
        for other in value:
            if other == key:
                continue
            entry = repair("extra", (), {other: value[other]}, None)
            light = squeezed(other) in ENVELOPE
            log.append(entry._replace(cost=0.0) if light else entry)
            cost += 0 if light else entry.cost
        yield key, content, tuple(log), cost
