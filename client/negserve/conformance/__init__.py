"""Holds servers and clients, in any language, against the golden files of the protocol."""
