"""Sample data that comes with the package: `shop.csv`, the question-and-answer export of an invented online shop."""
