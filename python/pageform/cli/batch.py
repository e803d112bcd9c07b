"""`pageform batch`: creating, sending, watching and reading batches. Thin: `pageform.batch` does the work."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from ..batch import Batch, LineResult, find_job, list_jobs
from ..core.errors import PageformError, ParameterError
from ..structured.spec import Spec
from . import show
from .targets import PROVIDERS, backend_of, load_type, reader_of, settings_of

batch = typer.Typer(name="batch", help="Many requests for values of one type, answered later.", no_args_is_help=True)

State = Annotated[Path, typer.Option("--state", envvar="PAGEFORM_BATCHES", help="The file that jobs are kept in.")]
JobName = Annotated[str | None, typer.Argument(help="Id or name of a job; not needed if there is one only.")]
TypeName = Annotated[
    str | None, typer.Option("--response-model", "-t", help="The type, as module:Class; by default that of the job.")
]
_STATE = Path("pageform-batches.db")


def _guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Tells errors in a line instead of a traceback."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except PageformError as error:
            show.problem(str(error))
        except KeyboardInterrupt:
            show.problem("interrupted; nothing is lost: pageform batch resume goes on")
        except Exception as error:
            if not _of_an_sdk(error):
                raise
            show.problem(f"{type(error).__name__}: {error}")
        raise typer.Exit(2)

    return guarded


@batch.command()
@_guarded
def create(
    lines: Annotated[Path, typer.Argument(help="A JSONL file: a text, messages, or an object with messages a line.")],
    response_model: Annotated[str, typer.Option("--response-model", "-t", help="The type, as module:Class.")],
    provider: Annotated[str, typer.Option("--provider", "-p", help=f"Who answers: {', '.join(PROVIDERS)}.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model's name.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the job; by default the file's name.")] = None,
    mode: Annotated[str | None, typer.Option(help="tools, schema or text.")] = None,
    max_retries: Annotated[int, typer.Option(help="How often an answer that is not valid is asked for again.")] = 2,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A further argument for all lines: name=value.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Send it at once, and wait for the results.")] = False,
    state: State = _STATE,
) -> None:
    """Make a job of a file of requests. Nothing is sent yet."""
    kind, path = load_type(response_model)
    options = settings_of(set_ or [])
    if model is not None and provider != "engine":
        options["model"] = model
    with (
        backend_of(provider, model) as backend,
        Batch.create(
            state,
            backend,
            lines,
            response_model=kind,
            imports_as=path,
            name=name,
            mode=mode,
            max_retries=max_retries,
            **options,
        ) as job,
    ):
        show.status(job.status())
        if run:
            _finish(job, None)


@batch.command()
@_guarded
def submit(job: JobName = None, response_model: TypeName = None, state: State = _STATE) -> None:
    """Send what is to be sent, and do not wait."""
    with _opened(state, job, response_model) as opened:
        show.status(opened.submit())


@batch.command()
@_guarded
def resume(
    job: JobName = None,
    response_model: TypeName = None,
    timeout: Annotated[float | None, typer.Option(help="Stop waiting after so many seconds.")] = None,
    state: State = _STATE,
) -> None:
    """Work on a job until every line has its result: send, wait, judge, ask again. After a crash, go on."""
    with _opened(state, job, response_model) as opened:
        _finish(opened, timeout)


@batch.command(name="list")
@_guarded
def list_(
    remote: Annotated[str | None, typer.Option("--remote", help="The provider's own list of batches instead.")] = None,
    state: State = _STATE,
) -> None:
    """All jobs of the state file, the newest first."""
    if remote is None:
        show.jobs(list_jobs(state) if state.exists() else [])
        return
    if remote == "engine":
        raise ParameterError("remote", remote, "keeps no list", "Use openai or anthropic.")
    with backend_of(remote, None) as backend:
        show.remote_jobs(backend.jobs())


@batch.command()
@_guarded
def status(
    job: JobName = None,
    response_model: TypeName = None,
    poll: Annotated[bool, typer.Option("--poll", help="Ask the provider first, and fetch what is ready.")] = False,
    state: State = _STATE,
) -> None:
    """Where a job stands."""
    if poll:
        with _opened(state, job, response_model) as opened:
            show.status(opened.poll())
    else:
        show.job(find_job(state, job))


@batch.command()
@_guarded
def results(
    job: JobName = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A JSONL file; by default the terminal.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only lines that failed.")] = False,
    response_model: TypeName = None,
    state: State = _STATE,
) -> None:
    """The results as JSONL, one a line, in the order of the requests: custom_id, state, value or error."""
    with _opened(state, job, response_model, offline=True) as opened:
        found = opened.failures() if failed else opened.results()
        spec = opened.spec
        if output is None:
            _write(found, spec, sys.stdout)
        else:
            with output.open("w", encoding="utf-8") as file:
                number = _write(found, spec, file)
            show.note(f"{number} results written to {output}")


@batch.command()
@_guarded
def retry(
    job: JobName = None,
    max_retries: Annotated[int, typer.Option(help="How many more attempts may follow the next.")] = 1,
    response_model: TypeName = None,
    state: State = _STATE,
) -> None:
    """Put failed and cancelled lines in line again, with their errors for the model. `resume` sends them."""
    with _opened(state, job, response_model, offline=True) as opened:
        show.status(opened.resubmit(max_retries))


@batch.command()
@_guarded
def cancel(job: JobName = None, response_model: TypeName = None, state: State = _STATE) -> None:
    """Send nothing more, and ask the provider to stop."""
    with _opened(state, job, response_model) as opened:
        show.status(opened.cancel())


@batch.command()
@_guarded
def delete(
    job: JobName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    response_model: TypeName = None,
    state: State = _STATE,
) -> None:
    """Forget a job and its results, here and at the provider."""
    with _opened(state, job, response_model) as opened:
        if yes or typer.confirm(f"Forget the job {opened.name} ({opened.id}) and its results?"):
            opened.delete()
            show.note(f"deleted {opened.id}")


# ----------------------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(state: Path, job: str | None, response_model: str | None, offline: bool = False) -> Iterator[Batch]:
    """A job with what it was made with. `offline`: nothing will be asked of the provider."""
    named = find_job(state, job)
    settings = named["settings"]
    path = response_model or settings["response_model"]
    if path is None:
        reason = "is not known: the job was made with a type that can't be imported"
        raise ParameterError("response-model", None, reason, "Give it with -t module:Class.")
    kind, _ = load_type(path)
    answering: Any = backend_of(settings["backend"], settings["model"])
    if offline:
        answering = nullcontext(reader_of(settings["backend"]))
    with answering as backend, Batch.open(state, backend, response_model=kind, job=named["id"]) as opened:
        yield opened


def _of_an_sdk(error: Exception) -> bool:
    """Whether what the provider or its SDK says is what helps. Anthropic's raises a TypeError where no key is set."""
    named = hasattr(error, "status_code") or type(error).__module__.startswith(PROVIDERS)
    return named or "authentication method" in str(error)


def _finish(job: Batch, timeout: float | None) -> None:
    status = job.run(progress=show.on_terminal(), timeout=timeout)
    show.status(status)
    if not status.finished:
        show.note(f"not finished yet: pageform batch resume {job.id}")
    elif status.failed:
        raise typer.Exit(1)


def _write(found: Iterator[LineResult], spec: Spec[Any], file: TextIO) -> int:
    written = 0
    for one in found:
        told: dict[str, Any] = {"custom_id": one.key, "state": one.state, "attempts": len(one.attempts)}
        if one.ok:
            told["value"] = spec.adapter.dump_python(one.value, mode="json", by_alias=True)
        elif one.error is not None:
            told["error"] = one.error.as_dict() if hasattr(one.error, "as_dict") else str(one.error)
        file.write(json.dumps(told, ensure_ascii=False) + "\n")
        written += 1
    return written
