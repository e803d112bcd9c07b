"""What grammars cost a step that runs beside them, and what drafts save of the time of an object.

The first part needs no model, see `schemas`. The second decodes 32 requests at once, with and without a grammar in
turn, and reads the engine's own timers. The third decodes one object at a time; each object is decoded in every draft
mode, in random order, so that what else the machine does hits all alike. With `--data` the objects are those of wnut17
(its schema file) and of BFCL's calls.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.extract.documents import conversation, load
from examples.extract.records import KINDS
from pageform import Completion, Engine, SamplingParams

from .options import Options
from .report import Report
from .schemas import measure_schemas

BATCH, ROUNDS = 32, 3
STEPS = 640
"""Tokens of each request in a round: even with drafts they take more than the 512 steps of an engine's median."""
MODES = ("none", "forced", "ngram", "auto")
OBJECTS = 60
"""Of each source; each is decoded in all modes."""
MAX_TOKENS = 300
ALLOWED_SHARE = 0.03
REQUIRED_SPEEDUP = 1.5

ENDLESS: dict[str, Any] = {
    "type": "array",
    "minItems": 1000,
    "maxItems": 2000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3, "maxLength": 40},
            "kind": {"enum": ["person", "place", "product", "event"]},
            "amount": {"type": "number", "minimum": 0, "maximum": 10000},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
        },
        "required": ["name", "kind", "amount", "tags"],
    },
}
"""Answers that go on until max_tokens, with all that JSON has in them."""


@dataclass(frozen=True, slots=True)
class Task:
    """A conversation and the schema of its answer. All but the last message are the same in many tasks."""

    messages: list[dict[str, Any]]
    schema: dict[str, Any]

    @property
    def shared(self) -> list[dict[str, Any]]:
        return [*self.messages[:-1], {**self.messages[-1], "content": "."}]


def run(options: Options) -> Report:
    """Share of a step that grammars cost at batch 32, and seconds of an object in each draft mode at batch 1."""
    report = Report("forms", {"model": options.model, "threads": options.threads})
    measure_schemas(report, options)
    sources = read_sources(options)
    with Engine(
        options.model,
        threads=options.threads,
        max_num_seqs=BATCH,
        max_model_len=2048,
        kv_cache_memory="1GB",
        seed=options.seed,
    ) as engine:
        measure_overhead(report, engine, options)
        for name, tasks in sources.items():
            measure_drafts(report, engine, name, tasks, options)
    report.note("the time of an object includes its own text; instructions, and functions to call, are in the cache")
    return report


def measure_overhead(report: Report, engine: Engine, options: Options) -> None:
    """32 requests with a grammar, in turn with 32 without one."""
    steps, rounds = (24, 1) if options.smoke else (STEPS, ROUNDS)
    texts = [document.text for document in load()]
    prompts = [f"List everything that is named here.\n\n{texts[i % len(texts)][:300]}\n\n" for i in range(BATCH)]
    seconds: dict[str, list[float]] = {"no grammar": [], "none": [], "auto": []}
    shares: dict[str, list[float]] = {"none": [], "auto": []}
    for _ in range(rounds):
        for mode in seconds:
            schema = None if mode == "no grammar" else ENDLESS
            drafts = "none" if mode == "no grammar" else mode
            sampling = [
                SamplingParams(
                    temperature=0.8, seed=i, max_tokens=steps, ignore_eos=True, json_schema=schema, drafts=drafts
                )
                for i in range(BATCH)
            ]
            before = engine.stats()
            completions = engine.generate(prompts, sampling=sampling, progress=False)
            after = engine.stats()
            tokens = sum(len(completion.token_ids) for completion in completions)
            seconds[mode].append((after.step_seconds - before.step_seconds) / tokens * BATCH)
            if schema is not None:
                shares[mode].append(after.grammar_share)
    for mode, samples in seconds.items():
        label = mode if mode == "no grammar" else f"grammar, drafts {mode}"
        report.add(f"batch {BATCH}, a token of each, {label}", "ms", [1000 * value for value in samples])
    for mode, medians in shares.items():
        name = f"grammar time that the step does not hide, batch {BATCH}, drafts {mode}"
        share = report.add(name, "%", [100 * value for value in medians])
        if not options.smoke:
            report.check(f"{name}: at most {ALLOWED_SHARE:.0%} of a step", share.median <= 100 * ALLOWED_SHARE)
    report.note(f"each share is the median over the last 512 steps of a round of {steps} tokens of {BATCH} requests")


def measure_drafts(report: Report, engine: Engine, name: str, tasks: Sequence[Task], options: Options) -> None:
    """Each task in every mode; answers must be the same."""
    random_ = random.Random(options.seed)
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    counts: dict[str, tuple[int, int]] = {}
    answer(engine, tasks[0], "none", MAX_TOKENS)
    num_tokens = 0
    for number, task in enumerate(tasks):
        answers = {}
        for mode in random_.sample(MODES, len(MODES)):
            engine.reset_prefix_cache()
            answer(engine, Task(task.shared, task.schema), "none", 1)
            before = engine.stats()
            start = time.perf_counter()
            answers[mode] = answer(engine, task, mode, MAX_TOKENS)
            seconds[mode].append(time.perf_counter() - start)
            after = engine.stats()
            for kind in after.drafted_tokens:
                drafted, accepted = counts.get(f"{mode}, {kind}", (0, 0))
                drafted += after.drafted_tokens[kind] - before.drafted_tokens.get(kind, 0)
                accepted += after.accepted_tokens.get(kind, 0) - before.accepted_tokens.get(kind, 0)
                counts[f"{mode}, {kind}"] = (drafted, accepted)
        if any(other.token_ids != answers["none"].token_ids for other in answers.values()):
            raise RuntimeError(f"{name}, object {number}: drafts changed the answer")
        num_tokens += len(answers["none"].token_ids)
    report.add(f"{name}: tokens of an object", "tokens", num_tokens / len(tasks))
    for mode in MODES:
        report.add(f"{name}: time of an object, drafts {mode}", "ms", [1000 * value for value in seconds[mode]])
    for mode in MODES[1:]:
        ratio = sum(seconds["none"]) / sum(seconds[mode])
        report.add(f"{name}: drafts {mode} against none, all objects", "times as fast", ratio)
        if mode == "auto" and options.data is not None and not options.smoke:
            report.check(f"{name}: drafts make objects at least {REQUIRED_SPEEDUP:g} times as fast", ratio >= 1.5)
    for label, (drafted, accepted) in sorted(counts.items()):
        if drafted:
            report.add(f"{name}: drafts {label}: accepted of {drafted}", "%", 100 * accepted / drafted)


def answer(engine: Engine, task: Task, mode: str, max_tokens: int) -> Completion:
    """One object, greedily."""
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, json_schema=task.schema, drafts=mode)
    completion: Completion = engine.chat(task.messages, sampling)
    return completion


def read_sources(options: Options) -> dict[str, list[Task]]:
    """Tasks by name: of the folder `--data`, else of the demo's texts."""
    count = 2 if options.smoke else OBJECTS
    if options.data is None:
        documents = load()[:count]
        return {
            "demo texts": [
                Task(conversation(document), KINDS[document.kind].model.model_json_schema()) for document in documents
            ]
        }
    return {"wnut17": entities(options.data)[:count], "BFCL": calls(options.data)[:count]}


def entities(folder: Path) -> list[Task]:
    """Named entities of wnut17's texts under the schema that comes with them."""
    schema = json.loads((folder / "wnut17_schema.json").read_text(encoding="utf-8"))
    kinds = ", ".join(schema["properties"])
    instruction = f"Find the named entities in the text. Answer with a JSON object of lists, one for each of: {kinds}."
    return [Task([system(instruction), user(row["text"])], schema) for row in rows(folder / "wnut17_150.jsonl")]


def calls(folder: Path) -> list[Task]:
    """Function calls of BFCL: the name of the function and its arguments."""
    tasks = []
    for row in rows(folder / "bfcl_simple_150.jsonl"):
        functions = [tool["function"] for tool in row["tools"]]
        options = [
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": function["parameters"]},
                "required": ["name", "arguments"],
            }
            for function in functions
        ]
        schema = options[0] if len(options) == 1 else {"anyOf": options}
        instruction = "Answer with a JSON object that calls the function which does what the user wants. Functions: "
        tools = json.dumps(functions, ensure_ascii=False)
        tasks.append(Task([system(instruction + tools), user(row["messages"][-1]["content"])], schema))
    return tasks


def rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
