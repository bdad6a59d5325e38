"""A recorded run as one self-contained page, and as a page that follows a run in progress."""
