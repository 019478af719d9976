"""One script for a machine with a GPU: that everything computes there, and how fast; `make gpu-check`."""
