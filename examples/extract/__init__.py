"""Extraction of typed records from letters, receipts and notices: what `make demo` runs.

`records` holds the response types and their instructions, `documents` the texts, `display` the live table, and
`__main__` ties them to an engine. Start reading with `records`.
"""
