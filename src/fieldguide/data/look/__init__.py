"""What lies in a folder, and what is wrong with it."""
