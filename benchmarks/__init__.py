"""The measurements behind every published number."""
