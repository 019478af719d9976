"""One training or several: from request and photos to judged runs."""
