"""Rendering untrusted Jinja templates, as chat templates from the net are.

Jinja's immutable sandbox keeps templates away from Python's internals and from changing their arguments. What it leaves
open is spending: `_Budget` bounds the loop iterations, the seconds, and the size of every string, list and number that
operators, and of every text that known growing functions, make.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.errors import ParameterError

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SECONDS = 5.0
MAX_ITERATIONS = 1_000_000
MAX_SIZE = 1 << 24
"""Characters of a text, items of a list, bits of a number."""


class _Exhausted(Exception):
    """A template spent more than it may."""


class _Rejected(Exception):
    """The template called raise_exception: it doesn't accept the messages."""


class _Budget:
    """What one rendering may still spend."""

    def __init__(self) -> None:
        self._iterations = MAX_ITERATIONS
        self._deadline = time.monotonic() + MAX_SECONDS

    def tick(self) -> str:
        """Called at each iteration of a loop and each call of a macro."""
        self._iterations -= 1
        if self._iterations < 0:
            raise _Exhausted(f"it runs through more than {MAX_ITERATIONS} loop iterations")
        if self._iterations % 256 == 0 and time.monotonic() > self._deadline:
            raise _Exhausted(f"it takes longer than {MAX_SECONDS:g} s")
        return ""


_budget: ContextVar[_Budget] = ContextVar("pageform_template_budget")


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Renders a template. Raises ParameterError about `messages` (rejected by it) or `chat_template` (all else)."""
    from jinja2 import TemplateError

    token = _budget.set(_Budget())
    try:
        return "".join(_within_size(compile_template(source).generate(**variables)))
    except _Rejected as error:
        raise ParameterError(
            "messages", variables.get("messages"), f"the chat template rejects them: {error}", "Change the messages."
        ) from error
    except TemplateError as error:
        _fail(source, f"{type(error).__name__}: {error}", error)
    except _Exhausted as error:
        _fail(source, str(error), error)
    except (RecursionError, MemoryError) as error:
        _fail(source, "it nests too deeply or needs too much memory", error)
    except Exception as error:  # a template can raise anything that its expressions can
        _fail(source, f"it failed with {type(error).__name__}: {error}", error)
    finally:
        _budget.reset(token)


def _fail(source: str, reason: str, cause: Exception) -> NoReturn:
    raise ParameterError("chat_template", source, reason, "Pass a working chat_template.") from cause


def _within_size(pieces: Any) -> Any:
    size = 0
    for piece in pieces:
        size += len(piece)
        _check_size(size)
        yield piece


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise _Exhausted(f"it makes something larger than {MAX_SIZE} characters, items or bits")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of Jinja's own filter: what chat templates are written for."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise _Rejected(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


@lru_cache(maxsize=64)
def compile_template(source: str) -> Template:
    """Compiles a template in the sandbox; compiled ones are kept. Raises jinja2.TemplateError."""
    template: Template = _environment().from_string(source)
    return template


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}` marks the assistant's words for training; here it changes nothing."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_size(_size_of_result(operator, left, right))
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            self_ = getattr(function, "__self__", None)
            if isinstance(self_, str):
                _check_size(_size_of_method(self_, function.__name__, args))
            return super().call(context, function, *args, **kwargs)

        def _parse(self, source: str, name: Any, filename: Any) -> Any:
            tree = super()._parse(source, name, filename)
            repeated: list[Any] = [*tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))]
            for node in repeated:
                call = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
                node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
            return _rewrite_concats(tree)

        @staticmethod
        def tick() -> str:
            return _budget.get().tick()

        @staticmethod
        def concatenated(*parts: Any) -> str:
            texts = [str(part) for part in parts]
            _check_size(sum(map(len, texts)))
            return "".join(texts)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    for name in ("replace", "center", "indent", "batch", "slice", "format"):
        environment.filters[name] = _guarded_filter(name, environment.filters[name])
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _rewrite_concats(tree: Any) -> Any:
    """`a ~ b` becomes a call that checks the size first; Jinja lets no sandbox intercept it otherwise."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    class Rewriter(NodeTransformer):
        def visit_Concat(self, node: Any, *args: Any, **kwargs: Any) -> Any:
            self.generic_visit(node)
            return nodes.Call(
                nodes.EnvironmentAttribute("concatenated"), node.nodes, [], None, None, lineno=node.lineno
            )

    return Rewriter().visit(tree)


def _size_of_result(operator: str, left: Any, right: Any) -> int:
    """Upper bound of the size of `left operator right`; 0 where it can't be large."""
    if operator == "*":
        for value, count in ((left, right), (right, left)):
            if isinstance(value, (str, list, tuple)) and isinstance(count, int):
                return len(value) * max(count, 0)
        return _bits(left) + _bits(right)
    if operator == "**":
        return _bits(left) * max(right, 1) if isinstance(right, int) else 0
    if operator == "+":
        return _length(left) + _length(right)
    if operator == "%" and isinstance(left, str):
        return _size_of_format(left, right if isinstance(right, tuple) else (right,))
    return 0


def _size_of_method(text: str, method: str, args: tuple[Any, ...]) -> int:
    """Upper bound of what a call of a growing str method makes."""
    if method == "replace" and len(args) >= 2:
        return len(text) + (len(text) + 1) * _length(args[1])
    if method in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        width = args[0] if args and isinstance(args[0], int) else 8
        return (len(text) if method == "expandtabs" else 1) * max(width, 1)
    if method == "join" and args and isinstance(args[0], (list, tuple)):
        return len(args[0]) * len(text)
    if method in ("format", "format_map"):
        return _size_of_format(text, args)
    return 0


def _size_of_format(pattern: str, args: tuple[Any, ...]) -> int:
    """Widths and precisions are digits of the pattern, or numbers among the arguments."""
    import re

    written = max((int(digits) for digits in re.findall(r"\d{1,19}", pattern)), default=0)
    given = (
        max((abs(arg) for arg in args if isinstance(arg, int)), default=0) if "*" in pattern or "{" in pattern else 0
    )
    return max(written, given if "*" in pattern else 0) + len(pattern)


def _guarded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja with a bound on what its arguments can make it produce."""
    from functools import wraps

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        if name == "replace":
            texts = [_length(value) for value in values]
            _check_size(max(texts, default=0) + max(texts, default=0) * sorted(texts)[-2] if len(texts) > 1 else 0)
        elif name == "format":
            _check_size(
                max((_size_of_format(value, tuple(values)) for value in values if isinstance(value, str)), default=0)
            )
        else:
            _check_size(max((value for value in values if isinstance(value, int)), default=0))
        return function(*args, **kwargs)

    return guarded


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0
