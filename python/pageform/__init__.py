"""pageform: typed answers from language models."""
