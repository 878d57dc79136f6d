"""Real networks with data to calibrate and judge them on. The table is `nets.NETWORKS`."""
