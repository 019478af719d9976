"""A table of labels: any file that people have, to a class for each photo."""
