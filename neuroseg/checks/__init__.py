"""Whether a result can be trusted: cut up again, replayed, compared with a truth, and looked through for holes."""
