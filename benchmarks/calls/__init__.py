"""The calls that `rivals_run.py` makes, a module a kind of fit; rivals are imported inside the functions."""
