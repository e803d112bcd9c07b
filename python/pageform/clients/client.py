"""The client: a caller's SDK client whose methods can answer with validated values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from ..structured.hooks import Handler, Hooks
from .base import Kwargs
from .endpoint import Endpoint
from .options import Options
from .verbs import Verbs

Path = tuple[str, ...]


class View:
    """Attributes of an SDK's object, those at the paths of `own` replaced."""

    def __init__(self, target: Any, own: Mapping[Path, Any], at: Path = ()) -> None:
        self.__target, self.__own, self.__at = target, own, at

    def __getattr__(self, name: str) -> Any:
        path = (*self.__at, name)
        inside = any(one[: len(path)] == path and one != path for one in self.__own)
        if path in self.__own and not inside:
            return self.__own[path]
        if inside:
            return View(getattr(self.__target, name, None), self.__own, path)
        if self.__target is None:
            raise AttributeError(f"the SDK's client has no {'.'.join(path)}")
        return getattr(self.__target, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__own.get(self.__at, self.__target)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pageform view of {self.__target!r}>"


class _Resource(Verbs):
    """The verbs beside the other methods of an SDK's resource, such as `chat.completions`."""

    def __init__(self, verbs: Verbs, target: Any) -> None:
        super().__init__(verbs._endpoint, verbs._options, verbs._defaults)
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if self._target is None:
            raise AttributeError(f"{self._endpoint.name}'s client has no method {name} here")
        return getattr(self._target, name)


class Client(Verbs):
    """An SDK's client with the verbs of `Verbs`; every other attribute is the SDK client's own.

        client = from_openai(OpenAI(), model="gpt-5-mini")
        user = client.create(User, messages=[{"role": "user", "content": "Ann is 30."}])

    The verbs stand on the client, on `chat.completions`, on `messages`, and where the SDK has its own method, such as
    `responses` or `models.generate_content`. One class serves sync and async: of an async SDK client, verbs give
    awaitables and streams are async iterators. Thread-safe as far as the SDK is.

    `client` is the SDK's, `hooks` are told of each call; see `Verbs` for the options that calls are given by default.
    """

    def __init__(
        self,
        client: Any,
        endpoint: Endpoint,
        path: Path,
        options: Options = Options(),  # noqa: B008 - frozen
        defaults: Kwargs | None = None,
        others: Mapping[Path, Endpoint] | None = None,
    ) -> None:
        """`path` is where the SDK's client has the endpoint's method; `others` are further endpoints by their paths."""
        self.client = client
        self.hooks = Hooks.of(options.hooks).copy()
        super().__init__(endpoint, replace(options, hooks=self.hooks), dict(defaults or {}))
        self.modes = endpoint.modes
        own: dict[Path, Any] = {(*place, "create"): self for place in (("chat", "completions"), ("messages",))}
        for where, one in {**(others or {}), path: endpoint}.items():
            own[where] = Verbs(one, self._options, self._defaults)
        self._view = View(client, dict(_standing(where, verbs, client) for where, verbs in own.items() if where))

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler` at each event of that name; see `Hooks.on`."""
        self.hooks.on(name, handler)

    def off(self, name: str, handler: Handler) -> None:
        """Forget a handler."""
        self.hooks.off(name, handler)

    def clear(self, name: str | None = None) -> None:
        """Forget all handlers of an event, or of all events."""
        self.hooks.clear(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_view" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._view, name)

    def __repr__(self) -> str:
        return f"<pageform client of {self._endpoint.name} over {self.client!r}>"

    def __enter__(self) -> Self:
        self.client.__enter__()
        return self

    def __exit__(self, *exception: Any) -> Any:
        return self.client.__exit__(*exception)

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> Any:
        return await self.client.__aexit__(*exception)


def _standing(path: Path, verbs: Verbs, client: Any) -> tuple[Path, Any]:
    """What stands where: all verbs beside a method `create`, else the verb `create` in the place of the method."""
    if path[-1] != "create":
        return path, verbs.create
    return path[:-1], _Resource(verbs, reach(client, path[:-1]))


def reach(client: Any, path: Path) -> Any:
    """What the SDK's client has there; None if nothing."""
    for name in path:
        client = getattr(client, name, None)
    return client
