"""A graph that the caller holds: read, checked, fingerprinted. numpy; no messages, no I/O."""
