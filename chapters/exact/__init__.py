"""Right answers: exact solvers that lessons and evidence are held against."""
