"""The page: what a browser shows of glassgpt."""
