"""What a batch gave, to be looked at: read from run folders and summaries alone; no torch, no simulation."""
