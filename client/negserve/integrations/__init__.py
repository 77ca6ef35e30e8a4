"""Adapters to other libraries, each of which needs that library; no adapter knows another."""
