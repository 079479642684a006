"""A workspace -> one HTML file that shows how the run went and what came out."""
