"""Solvers: arrays in, solutions with their certificates out. They know nothing of sites, folds or files."""
