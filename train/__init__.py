"""Training of the model: rendered lines, degradations, curriculum, losses and the training commands."""
