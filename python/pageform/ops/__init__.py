"""The op table: every op's name, signature and torch reference.

`table.py` is light data that programs are recorded with; `reference.py` holds the torch functions that define what each
op means and is imported only by the reference backend and by tests.
"""
