"""The graphs that are served, and how clients add to them. No message of the protocol."""
