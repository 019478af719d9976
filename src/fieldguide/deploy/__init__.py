"""Using a trained model: engines that compute, and the predictor that every command uses."""
