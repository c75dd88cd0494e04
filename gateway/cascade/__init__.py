"""A cascade: a cheap model is asked, its answer is checked, and the dearest is asked where that fails."""
