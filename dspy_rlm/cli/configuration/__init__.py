"""What the command line is configured with: flags, environment variables, a project's and the user's file, defaults."""
