"""The report that people look at: one self-contained HTML page of claims, tables, figures and their runs."""
