"""Data sets: loading, splits, batches."""
