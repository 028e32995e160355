"""Citation graphs: node classification (Table 3) and link prediction (Table 4)."""
