"""Snapshots: graphs as folders of arrays that are mapped; written, opened, checked and cached."""
