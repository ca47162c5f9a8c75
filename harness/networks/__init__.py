"""Networks as ordinary modules: their parts by name, their sizes, and what theory says of them."""
