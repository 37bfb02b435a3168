"""What every wing needs: errors, files, settings, random streams, processes, the way to SUMO's programs."""
