"""What a run may be: the typed schema, and its composition from `configs/` by Hydra."""
