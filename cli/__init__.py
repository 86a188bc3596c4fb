"""The command line: one command per file. Parse, call the library, show."""
