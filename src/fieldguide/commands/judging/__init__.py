"""Photos judged: whose labels, which model, which figures."""
