"""Arrays, tables and done marks on disk or on a server. Every stage reads and writes through this package."""
