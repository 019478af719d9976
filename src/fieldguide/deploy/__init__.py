"""The trained model at work: engines that compute, and the predictor that serves every command."""
