"""A network in training -> its scores, what it needs, and how long that takes."""
