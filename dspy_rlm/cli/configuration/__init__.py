"""The configuration of the command line: flags, environment variables, a project's and the user's file, defaults."""
