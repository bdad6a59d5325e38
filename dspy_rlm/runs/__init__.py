"""One run, from checked inputs to a prediction. Never sees the `RLM` itself, only its parts."""
