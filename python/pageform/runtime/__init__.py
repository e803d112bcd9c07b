"""From a model's wiring to steps that run: recording programs, and the runners that execute them.

Owns the recorded `Program` (plain data, immutable once recorded), the arrays of one step (`StepInputs`), and the two
runners: `NativeRunner` over a backend library, `ReferenceRunner` over torch. A runner belongs to one executor and is
used by one thread at a time; it lives as long as its model is loaded, and the KV cache it writes is the executor's.
Models record programs here; nothing below imports this room.
"""
