"""Sub-commands of the console script `basicsr`, one file each, with a `main(argv)`."""
