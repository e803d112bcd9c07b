"""Extracts typed records from texts with a small model on the CPU.

python -m examples.extract                              the texts that come with it
python -m examples.extract --data FILE --kind receipt   your own: JSON lines {"kind": …, "text": …}, or plain lines
python -m examples.extract --output records.jsonl       keep the records
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from rich.console import Console

from pageform import AsyncEngine, PageformError, SamplingParams, StructuredError, Usage

from .display import Display
from .documents import SAMPLES, DataError, Document, conversation, load
from .outcome import Outcome, summary
from .records import KINDS

SAMPLING = SamplingParams(temperature=0.0, max_tokens=400, frequency_penalty=0.3)
"""Greedy, since records are to be copied, not invented; the penalty keeps a small model from filling lists with one
entry. 400 tokens are well above what a record takes; an answer that is cut off counts as invalid."""


async def extract(engine: AsyncEngine, document: Document) -> Outcome:
    """One document's record. A failure is part of the outcome: it must not end the others."""
    start = time.perf_counter()
    try:
        [(record, completion)] = await engine.generate_with_completion(
            [conversation(document)],
            response_model=KINDS[document.kind].model,
            sampling=SAMPLING,
        )
    except StructuredError as error:
        seconds = time.perf_counter() - start
        return Outcome(document, None, error, error.usage, None, seconds, len(error.attempts))
    except PageformError as error:
        return Outcome(document, None, error, Usage(), None, time.perf_counter() - start, 0)
    seconds, first_token = time.perf_counter() - start, completion.timings.first_token
    return Outcome(document, record, None, completion.usage, first_token, seconds, len(completion.attempts))


async def run(documents: list[Document], model: str, threads: int | None, console: Console) -> list[Outcome]:
    """Asks for all records at once, shows them as they come in, and prints the figures of the run."""
    start = time.perf_counter()
    async with AsyncEngine(model, threads=threads, max_num_seqs=min(64, len(documents))) as engine:
        ready = time.perf_counter()
        outcomes: list[Outcome] = []
        with Display(documents, console) as display:
            for finished in asyncio.as_completed([extract(engine, document) for document in documents]):
                outcome = await finished
                outcomes.append(outcome)
                display.show(outcome)
        done = time.perf_counter()
    console.print()
    for name, figure in summary(outcomes, ready - start, done - ready):
        console.print(f"{name:<20} {figure}", highlight=False, soft_wrap=True)
    return outcomes


def save(outcomes: list[Outcome], path: Path) -> None:
    """Writes a JSON line a document, in order: its number, its kind, and its record or error."""
    with path.open("w", encoding="utf-8") as file:
        for outcome in sorted(outcomes, key=lambda outcome: outcome.document.number):
            line: dict[str, object] = {"number": outcome.document.number, "kind": outcome.document.kind}
            if outcome.record is not None:
                line["record"] = outcome.record.model_dump(mode="json")
            else:
                line["error"] = str(outcome.error)
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> int:
    """Exit code 0 when every text gave a valid record, 1 when some did not, 2 when nothing could start."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.extract", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SAMPLES, help="file with a text a line")
    parser.add_argument("--kind", choices=KINDS, default="note", help="kind of the lines that name none (note)")
    parser.add_argument("--limit", type=int, help="take only the first texts")
    parser.add_argument("--model", default="smollm2", help="installed model, hub id, folder or GGUF file (smollm2)")
    parser.add_argument("--threads", type=int, help="threads of the engine (all cores)")
    parser.add_argument("--output", type=Path, help="write the records to this file, a JSON line each")
    arguments = parser.parse_args()
    console = Console()
    try:
        documents = load(arguments.data, arguments.kind, arguments.limit)
        outcomes = asyncio.run(run(documents, arguments.model, arguments.threads, console))
    except (DataError, PageformError) as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.output:
        save(outcomes, arguments.output)
    return 0 if all(outcome.record is not None for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
