"""Formats of files, a module each: a file is read into a table of labels or ids."""
