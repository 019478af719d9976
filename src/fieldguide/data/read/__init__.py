"""A file to pixels, always the same way."""
