"""Values on the sandbox's side: unpickled, rebuilt as classes, written as tagged JSON. Knows no cell."""
