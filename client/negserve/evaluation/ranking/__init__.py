"""The loop over queries: known values are read ahead, scores ranked, by all ranks together."""
