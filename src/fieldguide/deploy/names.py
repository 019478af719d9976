"""Engines and mirror images by the names that a prediction asks for them."""

AUTO, PLAIN, INT8 = "auto", "plain", "int8"
AS_TRAINED = "as-trained"  # mirror images where the bundle asks for them
FLIPS = (AS_TRAINED, "none")
BATCH_SIZE = 64
