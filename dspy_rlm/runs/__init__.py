"""One run, from checked inputs to a prediction. Depends on the parts of an `RLM`, never on the `RLM` itself."""
