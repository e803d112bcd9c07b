"""The engines that pageform is measured beside: how each is installed and driven.

`install.py` makes an environment a peer from the package registries, `models.py` converts the one model for each. Every
other module is a peer's worker: a process of its own, in that environment, which owns the engine and obeys
`protocol.py`. Workers import the standard library, `benchmarks.job` and their own engine, nothing else of this project.
"""
