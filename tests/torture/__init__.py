"""Kills small trainings at random moments, lets others go on with them, and compares the ends bit for bit."""
