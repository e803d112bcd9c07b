"""How values of a class are read from an answer and written into one, for classes that Pydantic knows nothing of.

    codecs = Codecs({Money: Codec(read=Money.from_text, write=str)})
    spec = codecs.spec(Invoice)                # Invoice has fields of type Money, however deep
    parse(text, spec)                          # or parse(text, Invoice, codecs=codecs)
    codecs.dump(invoice, Invoice)              # JSON text

Codecs belong to the object that holds them: neither the classes nor Pydantic are changed, and the same class may be
read differently elsewhere. A model with fields Pydantic does not know must allow them (`arbitrary_types_allowed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic_core import PydanticCustomError, SchemaSerializer, SchemaValidator, core_schema
from typing_extensions import TypedDict

from ..core.errors import ParameterError
from .annotations import rewrite
from .spec import Kind, Spec

_KINDS: dict[str, Callable[[], core_schema.CoreSchema]] = {
    "string": core_schema.str_schema,
    "integer": core_schema.int_schema,
    "number": core_schema.float_schema,
    "boolean": core_schema.bool_schema,
    "object": core_schema.dict_schema,
    "array": core_schema.list_schema,
    "any": core_schema.any_schema,
}
_OPAQUE = frozenset(("default", "metadata", "config", "expected", "members", "values"))
"""Keys of core schemas that hold the caller's own objects."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How one class is read and written.

    `read` turns the JSON value that an answer holds into an instance; a `ValueError` of it is a validation error, which
    the model may correct. `write` turns an instance into a JSON value. `json` names the type of that JSON value
    ("string", "integer", "number", "boolean", "object", "array", "any"): the model is asked for it, values are aligned
    with it, and `read` sees no other. Without `write`, values can't be written.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] | None = None
    json: str = "string"

    def __post_init__(self) -> None:
        if self.json not in _KINDS:
            raise ParameterError("json", self.json, "is no JSON type", f"Give one of {', '.join(_KINDS)}.")
        for name, function in (("read", self.read), ("write", self.write)):
            if not callable(function) and not (name == "write" and function is None):
                raise ParameterError(name, function, "must be a function of one argument", "Give a callable.")


class Codecs:
    """Codecs by class. A codec is used for its class wherever that appears in a response type, not for subclasses."""

    def __init__(self, codecs: Mapping[type, Codec]) -> None:
        for cls, codec in codecs.items():
            if not isinstance(cls, type) or not isinstance(codec, Codec):
                raise ParameterError("codecs", {cls: codec}, "must map classes to Codec objects", "See Codecs.")
        self._codecs = dict(codecs)

    def spec(self, response_type: Any) -> Spec[Any]:
        """The spec of a type whose values are read and written with these codecs."""
        plain = Spec.of(rewrite(response_type, self._marked))
        return CodecSpec(response_type, plain.annotation, self.adapter(plain.annotation), plain.kind, self)

    def adapter(self, annotation: Any) -> TypeAdapter[Any]:
        """Pydantic's adapter of a type, with these codecs inside."""
        made: TypeAdapter[Any] = TypeAdapter(annotation)
        schema = self._rewritten(made.core_schema)
        made.core_schema = schema
        made.validator = _fresh(SchemaValidator, schema)
        made.serializer = _fresh(SchemaSerializer, schema)
        return made

    def dump(self, value: Any, response_type: Any = None) -> str:
        """The JSON text of a value. Its type is its class if none is given."""
        spec = self.spec(type(value) if response_type is None else response_type)
        return spec.adapter.dump_json(value).decode()

    def _marked(self, cls: Any) -> Any:
        codec = self._codecs.get(cls)
        return cls if codec is None else Annotated[cls, _Marker(cls, codec)]

    def _rewritten(self, schema: Any) -> Any:
        """A copy of a core schema in which the codecs' classes are read and written by the codecs."""
        if isinstance(schema, dict):
            codec = self._codecs.get(schema["cls"]) if isinstance(schema.get("cls"), type) else None
            if codec is not None and "type" in schema:
                return _codec_schema(schema["cls"], codec, schema.get("ref"))
            return {key: value if key in _OPAQUE else self._rewritten(value) for key, value in schema.items()}
        if isinstance(schema, (list, tuple)):
            return type(schema)(self._rewritten(item) for item in schema)
        return schema


class CodecSpec(Spec[Any]):
    """A spec whose values are read with codecs."""

    def __init__(
        self, response_type: Any, annotation: Any, adapter: TypeAdapter[Any], kind: Kind, codecs: Codecs
    ) -> None:
        super().__init__(response_type, annotation, adapter, kind)
        self.codecs = codecs

    def __reduce__(self) -> tuple[Any, ...]:
        return (_respec, (self.codecs, self.response_type))

    @cached_property
    def item(self) -> Spec[Any] | None:
        """As of any spec, with the same codecs."""
        plain = Spec.of(self.annotation).item
        return None if plain is None else self.codecs.spec(plain.response_type)

    @cached_property
    def members(self) -> dict[str, Spec[Any]]:
        """As of any spec, with the same codecs."""
        plain = Spec.of(self.annotation).members
        return {name: self.codecs.spec(spec.response_type) for name, spec in plain.items()}

    @cached_property
    def _enveloped(self) -> TypeAdapter[Any]:
        return self.codecs.adapter(TypedDict("Envelope", {self.envelope or "content": self.annotation}))  # type: ignore[operator]


class _Marker:
    """Metadata of `Annotated` for a class that is written in a response type itself."""

    def __init__(self, cls: type, codec: Codec) -> None:
        self.cls, self.codec = cls, codec

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return _codec_schema(self.cls, self.codec, None)


def _respec(codecs: Codecs, response_type: Any) -> Spec[Any]:
    return codecs.spec(response_type)


def _fresh(kind: Any, schema: Any) -> Any:
    """A validator or serializer of the schema as it is given: newer releases would take the ones that models hold."""
    try:
        return kind(schema, _use_prebuilt=False)
    except TypeError:  # a release that takes none
        return kind(schema)


def _codec_schema(cls: type, codec: Codec, ref: str | None) -> core_schema.CoreSchema:
    def read(value: Any) -> Any:
        try:
            return codec.read(value)
        except (TypeError, KeyError, IndexError, ArithmeticError) as error:  # what careless readers raise for bad text
            raise PydanticCustomError(
                "codec", "not a {name}: {reason}", {"name": cls.__name__, "reason": f"{type(error).__name__}: {error}"}
            ) from error

    writing = None
    if codec.write is not None:
        writing = core_schema.plain_serializer_function_ser_schema(codec.write)
    reading = core_schema.no_info_after_validator_function(read, _KINDS[codec.json]())
    either = core_schema.union_schema([core_schema.is_instance_schema(cls), reading])
    return core_schema.json_or_python_schema(reading, either, ref=ref, serialization=writing)
