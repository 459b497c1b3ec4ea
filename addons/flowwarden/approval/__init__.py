"""A human's answer to a held call: questions, grants, and what a grant is bound to."""
