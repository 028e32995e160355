"""The released code as referee: reference values made with it, against our models with the same parameters."""
