"""Experiments: recipes, runs, reproductions, ablations, and their tables."""
