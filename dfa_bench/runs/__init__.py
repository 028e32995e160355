"""What a run is: its identity, its record on disk, and the store of all records."""
