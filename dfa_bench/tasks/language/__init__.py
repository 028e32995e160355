"""Language modelling: Table 5."""
