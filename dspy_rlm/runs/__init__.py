"""One run, from checked inputs to a prediction. Only `RLM` imports it."""
