"""Importers: one published data set a module. Each turns the rows of its file into items."""
