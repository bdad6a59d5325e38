"""Tables and arrays of other packages, one module each: converted to columns of plain values."""
