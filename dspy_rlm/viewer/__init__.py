"""A recorded run as one self-contained page, and as a page that follows a run while it goes on."""
