"""The rewrites that `fuse` knows; one rule or one family in a file, the picture first."""
