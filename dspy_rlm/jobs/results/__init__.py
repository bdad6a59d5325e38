"""The results of a job: its columns, its file, its report, its progress."""
