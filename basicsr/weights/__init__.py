"""From weights to the network they belong to: recognising it, building it, putting them in."""
