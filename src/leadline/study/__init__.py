"""A study: configuration, run, results."""
