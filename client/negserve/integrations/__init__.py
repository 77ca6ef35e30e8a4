"""Adapters to other libraries; each needs that library, and none imports another adapter."""
