"""A graph that a caller gives: read, checked, fingerprinted. numpy; no messages, no connection."""
