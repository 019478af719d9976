"""Models as files for other runtimes, with their preprocessing inside."""
