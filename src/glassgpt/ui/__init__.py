"""The page in the browser, and what stands behind its tabs."""
