"""From records to tables. Numbers are never typed in: they come from runs."""
