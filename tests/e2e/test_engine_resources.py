"""What an engine costs: crossings a step, memory, start-up time, idle time, and nothing left behind."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import write_tiny_llama

from pageform import Engine, SamplingParams


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    out = json.loads(
        _run(
            "import time, sys; t = time.perf_counter(); import pageform; t = time.perf_counter() - t\n"
            "import json; print(json.dumps([t, [m for m in ('torch', 'transformers') if m in sys.modules]]))"
        )
    )
    assert out[0] < 0.5
    assert out[1] == []


def test_a_program_that_forgets_to_close_still_ends(tmp_path: Path) -> None:
    """The engine's thread must not keep the interpreter alive, nor make it wait for ever."""
    write_tiny_llama(tmp_path)
    out = _run(
        "from pageform import Engine, SamplingParams\n"
        f"engine = Engine({str(tmp_path)!r}, kv_cache_memory='8MB')\n"
        "stream = engine.stream('abc', SamplingParams(max_tokens=400, ignore_eos=True))\n"
        "print(len(next(stream)) > 0)"
    )
    assert out == "True\n"


def test_crossings_a_step_do_not_depend_on_layers(tmp_path: Path) -> None:
    """Greedy decoding of one request: the same number of steps, and of calls into native code, for 2 and 8 layers."""
    from pageform import _native

    seen = []
    for layers in (2, 8):
        folder = write_tiny_llama(tmp_path / str(layers), layers=layers)
        with Engine(folder, threads=2, kv_cache_memory="8MB") as engine:
            params = SamplingParams(temperature=0, max_tokens=32, ignore_eos=True)
            engine.generate("warm up", params)
            steps, crossings = engine.stats().steps, _native.crossings()
            engine.generate("count me", params)
            seen.append((engine.stats().steps - steps, _native.crossings() - crossings))
    assert seen[0] == seen[1]
    steps, crossings = seen[0]
    assert steps == 32
    assert crossings >= steps


@pytest.mark.slow
def test_peak_memory_is_near_the_files_size(smollm2_path: Path) -> None:
    """Peak RSS of a process that loads the model and answers 16 requests ≤ 1.4 × file + KV cache + 150 MB."""
    out = json.loads(
        _run(
            "import json\n"
            "from pageform import Engine, SamplingParams\n"
            "with Engine('smollm2', threads=2, kv_cache_memory='64MB', max_model_len=1024) as e:\n"
            "    e.generate(['Tell me about the weather in spring. ' * 8] * 16, SamplingParams(max_tokens=32))\n"
            "    kv = e.stats().kv_cache_bytes\n"
            # ru_maxrss would start at what this process had when it forked
            "status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)\n"
            "print(json.dumps([int(status['VmHWM'].split()[0]) * 1024, kv]))"
        )
    )
    limit = 1.4 * smollm2_path.stat().st_size + out[1] + 150e6
    print(f"peak {out[0] / 1e6:.0f} MB, limit {limit / 1e6:.0f} MB")
    assert out[0] <= limit


@pytest.mark.slow
def test_first_token_of_a_cold_process() -> None:
    """From process start to the first token's text, best of three: at most 1.5 s."""
    code = (
        "from pageform import Engine, SamplingParams\n"
        "import time\n"
        "e = Engine('smollm2', threads=2)\n"
        "next(e.stream('The capital of France is', SamplingParams(temperature=0, max_tokens=2)))\n"
        "print(time.time()); e.close()"
    )
    times = []
    for _ in range(3):
        start = time.time()
        times.append(float(_run(code)) - start)
    print("cold start:", [round(t, 2) for t in times])
    assert min(times) <= 1.5


def test_an_idle_engine_uses_no_cpu(engine: Engine) -> None:
    engine.generate("wake up", SamplingParams(max_tokens=2))
    time.sleep(0.1)
    used, start = time.process_time(), time.monotonic()
    time.sleep(1.5)
    assert (time.process_time() - used) / (time.monotonic() - start) < 0.02


def test_engines_come_and_go(tmp_path: Path) -> None:
    """Making and closing engines leaks neither threads nor memory."""
    import threading

    folder = write_tiny_llama(tmp_path)
    before = threading.active_count()
    sizes = []
    for _ in range(12):
        with Engine(folder, threads=2, kv_cache_memory="8MB") as engine:
            engine.generate("hello", SamplingParams(max_tokens=4))
        sizes.append(_rss())
    assert threading.active_count() == before
    assert sizes[-1] - sizes[3] < 8e6


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_ten_thousand_requests_of_every_fate_leave_nothing(tmp_path: Path) -> None:
    """Requests that end, time out or are preempted, in a process of their own: blocks come back, memory stays flat."""
    write_tiny_llama(tmp_path)
    script = Path(__file__).with_name("every_fate.py")
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "10000", str(seed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kv_blocks_used"] == report["running"] == report["waiting"] == 0
    assert report["preemptions"] > 0
    assert {"length", "timeout"} <= set(report["fates"])
    sizes = report["sizes"]
    assert sizes[-1] - sizes[len(sizes) // 4] < 8e6
