"""Recipes: everything that decides a training, typed, as a YAML file."""
