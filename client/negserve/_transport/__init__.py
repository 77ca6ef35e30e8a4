"""Reaching a server, whoever waits: replicas, tries, credentials, the abstract call.

Coroutines; no threads, no event loop, and nothing of what is asked.
"""
