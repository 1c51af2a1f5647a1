"""System calls that the standard library lacks, one typed function each."""
