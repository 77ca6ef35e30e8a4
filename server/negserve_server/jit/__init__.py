"""Compilation and cache of kernels, and their access to arrays. Contains no kernel."""
