"""A model behind HTTP: `fieldguide serve`."""
