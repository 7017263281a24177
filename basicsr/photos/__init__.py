"""Photo files and all that belongs to them: every kind read whole, in its own depth, and written back as it was.

Research data sets read their images by `basicsr.utils.img`, which gives pixels alone. Nothing here knows a network.
"""
