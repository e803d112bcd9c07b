"""Rendering untrusted Jinja templates: chat templates from the net, and messages with variables in them.

Jinja's immutable sandbox keeps templates away from Python's internals and from changing their arguments. It does not
limit what they spend, so the environment here charges a `Budget` wherever a template repeats or makes something: loops,
macros, calls, filters, tests, operators, literals and output. What a budget can't bound is one call into Python whose
cost is out of proportion to its arguments; none of the functions that a template can reach is known to be such.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ..core.errors import ParameterError
from .budget import MAX_TOKENS, Budget, Exhausted, check_operation, check_size, size_of_call

if TYPE_CHECKING:
    from jinja2 import Template

Kind = Literal["chat", "text", "lenient text"]
"""What a template is. `chat`: the names and the white space that transformers gives chat templates. `text`: Jinja's
own, where an unknown variable is an error; `lenient text`: where it is empty."""


class Rejected(Exception):
    """The template called raise_exception: it doesn't accept the messages."""


class Broken(Exception):
    """The template could not be rendered; the text says why."""


class UnknownVariable(Broken):
    """The template uses what is not there."""


_budget: ContextVar[Budget] = ContextVar("pageform_template_budget")


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Renders a chat template. Raises ParameterError on `messages` (rejected by it) or `chat_template` (all else)."""
    try:
        return run(source, variables, "chat", Budget())
    except Rejected as error:
        raise ParameterError(
            "messages", variables.get("messages"), f"the chat template rejects them: {error}", "Change the messages."
        ) from error
    except Broken as error:
        raise ParameterError("chat_template", source, str(error), "Pass a working chat_template.") from error.__cause__


def run(source: str, variables: Mapping[str, Any], kind: Kind, budget: Budget) -> str:
    """Renders a template within a budget, which several may share. Raises Rejected or Broken."""
    from jinja2 import TemplateError, UndefinedError

    token = _budget.set(budget)
    try:
        budget.spend(len(source))
        return "".join(_within_size(compile_template(source, kind).generate(variables)))
    except Rejected:
        raise
    except UndefinedError as error:
        raise UnknownVariable(str(error)) from error
    except TemplateError as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    except Exhausted as error:
        raise Broken(str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise Broken("it nests too deeply or needs too much memory") from error
    except Exception as error:  # a template can raise anything that its expressions can
        raise Broken(f"it failed with {type(error).__name__}: {error}") from error
    finally:
        _budget.reset(token)


def _within_size(pieces: Iterable[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        check_size(size)
        yield piece


@lru_cache(maxsize=64)
def compile_template(source: str, kind: Kind = "chat") -> Template:
    """Compiles a template in the sandbox; compiled ones are kept. Raises jinja2.TemplateError, or Exhausted for one
    that would take long to compile."""
    environment = _environment(kind)
    code = (token for _, token, _ in environment.lex(source) if token not in ("data", "whitespace"))
    if any(number >= MAX_TOKENS for number, _ in enumerate(code)):
        raise Exhausted(f"it has more than {MAX_TOKENS} tokens of code")
    template: Template = environment.from_string(source)
    return template


@lru_cache(maxsize=3)
def _environment(kind: Kind) -> Any:
    """The one environment of all templates of a kind."""
    from jinja2 import StrictUndefined, Undefined, nodes
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
            check_operation(operator, left, right)
            return charge(super().call_binop(context, operator, left, right))

        def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            # Jinja wraps str.format in a function that keeps it as __wrapped__.
            subject = getattr(getattr(function, "__wrapped__", function), "__self__", None)
            if isinstance(subject, (str, bytes, int)):
                check_size(size_of_call(_budget.get(), function.__name__, subject, args, kwargs))
            return charge(super().call(context, function, *args, **kwargs))

        def _parse(self, source: str, name: Any, filename: Any) -> Any:
            return _instrument(super()._parse(source, name, filename))

        @staticmethod
        def tick() -> None:
            _budget.get().tick()

        @staticmethod
        def charge(value: Any) -> Any:
            return charge(value)

        @staticmethod
        def concatenate(*parts: Any) -> str:
            texts = [str(charge(part)) for part in parts]
            check_size(sum(map(len, texts)))
            return str(charge("".join(texts)))

    chat = kind == "chat"
    environment = Sandbox(
        trim_blocks=chat,
        lstrip_blocks=chat,
        keep_trailing_newline=not chat,
        extensions=[Generation, loopcontrols] if chat else [],
        undefined=StrictUndefined if kind == "text" else Undefined,
        finalize=charge,
    )
    del environment.globals["lipsum"]  # makes text for as long as it is told to, beyond the reach of a budget
    environment.filters["tojson"] = _tojson
    tables: Any = (environment.filters, environment.tests)
    for functions in tables:
        functions.update({name: _charged(name, function) for name, function in functions.items()})
    if chat:
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
    return environment


def charge(value: Any) -> Any:
    """Charges a value to the running template's budget, and returns it."""
    budget = _budget.get(None)  # there is none while Jinja folds constants of a template that it compiles
    return value if budget is None else budget.charge(value)


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that pays for what it looks through and for what it makes."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # those get the context or environment before the value

    @wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get(None)
        if budget is None:
            return function(*args, **kwargs)
        if name == "join" and len(args) > first and not isinstance(args[first], (str, list, tuple)):
            args = (*args[:first], list(args[first]), *args[first + 1 :])  # a generator has no size yet
        if len(args) > first:
            check_size(size_of_call(budget, name, args[first], args[first + 1 :], kwargs))
        budget.spend(sum(len(arg) for arg in args[first:] if isinstance(arg, (str, list, tuple, dict, range))))
        return budget.charge(function(*args, **kwargs))

    return charged


def _instrument(tree: Any) -> Any:
    """Inserts the charges that Jinja has no hook for: loops, macros, literals of containers, and `~`."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    def call(function: str, arguments: list[Any], line: int) -> Any:
        return nodes.Call(nodes.EnvironmentAttribute(function), arguments, [], None, None, lineno=line)

    class Instrumenter(NodeTransformer):
        def visit_For(self, node: Any) -> Any:
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(call("tick", [], node.lineno), lineno=node.lineno))
            return node

        visit_Macro = visit_CallBlock = visit_For

        def visit_List(self, node: Any) -> Any:
            self.generic_visit(node)
            return call("charge", [node], node.lineno)

        visit_Dict = visit_List

        def visit_Tuple(self, node: Any) -> Any:
            return self.visit_List(node) if node.ctx == "load" else self.generic_visit(node)

        def visit_Concat(self, node: Any) -> Any:
            self.generic_visit(node)
            return call("concatenate", node.nodes, node.lineno)

    return Instrumenter().visit(tree)


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
    raise Rejected(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
