"""``make bench``: how fast, against whom, on this machine. A measurement, not a timed test."""
