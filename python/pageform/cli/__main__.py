"""`python -m pageform.cli`."""

from . import main

main()
