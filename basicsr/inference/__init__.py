"""Using trained networks on images: loading, tiling, self-ensemble. Imports nothing that trains."""
