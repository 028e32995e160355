"""One room per domain of the paper, all with the same doors (see `base.Task`)."""
