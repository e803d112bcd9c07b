"""Clients of other providers, made to answer with validated values.

A provider is a module of pure functions (`base.Provider`) and a row in a table; it owns nothing and imports no SDK. A
`Client` holds the caller's SDK client, drives the retry loop of `structured` with it, and passes everything else
through.
"""
