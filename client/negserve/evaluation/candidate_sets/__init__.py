"""Pinned candidates: sets, files and commands, and estimates from samples of them; numpy only."""
