"""Components of our own; importing :mod:`my_cmda.components` registers them."""
