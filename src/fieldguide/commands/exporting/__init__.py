"""What an export is held against, and what it says of itself."""
