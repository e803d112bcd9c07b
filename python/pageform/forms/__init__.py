"""Response type → form: what is decoded, under which grammar, and what validation has yet to check."""
