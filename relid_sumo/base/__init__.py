"""Code shared by all wings: errors, files, settings, random streams, processes, paths of SUMO's programs."""
