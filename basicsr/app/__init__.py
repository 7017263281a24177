"""A page in the browser for photos. `desk.py` does the work, `page.py` is what people see."""
