"""Checks servers and clients, in any language, against the golden files; no client needs it."""
