"""Tables that stay where they are: Parquet and Lance datasets, queried by their own engines."""
