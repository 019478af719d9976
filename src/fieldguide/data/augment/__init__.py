"""What chance does to a photo."""
