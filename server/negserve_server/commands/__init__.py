"""The commands of negserve-server but ``serve``, a module each, and what they share."""
