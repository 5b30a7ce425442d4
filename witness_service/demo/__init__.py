"""The main job, shown from beginning to end: a real log file signed, a key rotated, everything judged offline."""
