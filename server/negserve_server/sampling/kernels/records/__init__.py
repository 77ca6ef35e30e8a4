"""Records that kernels read and write: arguments, the cell table, lookups, cell state."""
