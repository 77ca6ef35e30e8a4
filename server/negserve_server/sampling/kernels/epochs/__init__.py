"""Epochs, compiled: their order, their positives, and one call that draws many batches."""
