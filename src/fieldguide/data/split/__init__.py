"""Which photo is in which part."""
