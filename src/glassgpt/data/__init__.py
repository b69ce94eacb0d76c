"""Files to training batches: read, cleaned, looked over, cut into shards. No torch here."""
