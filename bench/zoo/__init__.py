"""Real networks with data to calibrate and judge them on: `python -m bench.zoo fetch`. The table is `nets.NETWORKS`."""
