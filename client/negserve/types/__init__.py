"""Values: configurations, batches, datasets, fingerprints, warnings. numpy; no I/O, no messages."""
