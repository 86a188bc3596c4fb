"""How good footprints, probabilities and models are, measured against labels."""
