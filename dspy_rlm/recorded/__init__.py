"""A recorded run as a source of answers: the same run again, without paying for what was answered."""
