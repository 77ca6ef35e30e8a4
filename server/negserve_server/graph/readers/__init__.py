"""Files that graphs are read from, a module a format; what the rows mean is not known here."""
