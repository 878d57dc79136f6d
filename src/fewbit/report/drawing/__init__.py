"""A network drawn: data, groups, text of DOT, pictures, the page."""
