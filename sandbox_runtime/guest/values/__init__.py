"""Values on the sandbox's side: unpickled, rebuilt with their classes, encoded as tagged JSON. Knows no cell."""
