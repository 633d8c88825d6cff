"""Measuring attacks and reporting the results."""
