"""The score store: any teacher, any number of workers, every pair once."""
