"""Plain data that every room above may use: requests, parameters, plans, results, errors. No I/O, no numpy."""
