"""Photos: where they lie, what they hold, which part they are in, and how they become tensors."""
