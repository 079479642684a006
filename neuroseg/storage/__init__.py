"""Arrays, tables and done marks on disk: everything that a stage reads or writes goes through here."""
