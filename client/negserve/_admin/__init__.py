"""Administrators' calls and how their answers are shown, for the command lines of both halves."""
