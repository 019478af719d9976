"""Labelled photos through a model, to figures."""
