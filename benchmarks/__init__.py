"""The measurements behind all published numbers."""
