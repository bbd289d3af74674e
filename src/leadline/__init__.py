"""Linear probes on a model's internal activations, with the evidence to believe them."""
