"""Reports on finished runs, read from run folders and summaries. This package needs neither torch nor SUMO."""
