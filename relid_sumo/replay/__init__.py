"""Replays: an episode's vehicles, decisions and incidents on one page that plays offline."""
