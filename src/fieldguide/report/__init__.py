"""Pages, curves and tables, made from a run's files without its model."""
