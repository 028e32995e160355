"""Click-through rate prediction: Table 2."""
