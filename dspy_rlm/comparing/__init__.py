"""Several systems on the same items: measured in pairs, summed up with intervals, and a recommendation in words."""
