"""Measurements that anyone can repeat with one command: `python -m benchmarks throughput`, and so on.

A benchmark is a module with `run(options) -> Report`: it measures, and says what it measured, how often and with what
spread. `report` prints and saves; `workload` makes the prompts; `baseline` is what pageform is compared with.
"""
