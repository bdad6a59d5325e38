"""A real language model of 135 million parameters on two cores: installed with pinned packages, served by llama.cpp, and compared."""
