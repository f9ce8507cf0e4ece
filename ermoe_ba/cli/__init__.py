"""The command line: it carries choices to the library and results to the user."""
