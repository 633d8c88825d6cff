"""Scripts that publish what was measured: figures, tables, and the shipped generators."""
