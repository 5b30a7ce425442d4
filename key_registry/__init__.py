"""Rotation history of the witness keys, the two logs, and the judging of signatures however old."""
