"""What a person sees, and what the system says to a process."""
