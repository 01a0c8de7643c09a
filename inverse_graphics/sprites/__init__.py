"""AIR in 2-D: sprites drawn by a decoder into windows, and added up; the same bound, estimators and loop as in 3-D."""
