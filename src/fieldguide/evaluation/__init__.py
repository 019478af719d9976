"""Judging: from probabilities and labels to figures with their doubt."""
