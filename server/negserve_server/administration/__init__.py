"""Datasets that come and go while a server runs: its repository, and its administrators' calls."""
