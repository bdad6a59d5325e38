"""The configured models: the known facts about each, their sources, and a trial request."""
