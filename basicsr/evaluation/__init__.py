"""From images to numbers: one loop for validation, tests, evaluations, studies and publishing; and every report of them."""
