"""A report as one page that needs no network: what it shows is computed before, here it is only laid out."""
