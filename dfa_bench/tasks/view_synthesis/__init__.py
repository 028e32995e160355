"""Novel view synthesis with NeRF (Table 1, Figure 1)."""
