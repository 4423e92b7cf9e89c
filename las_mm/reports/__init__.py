"""What a test says: rates, the latency report, pictures of masks, trade-offs, the HTML page."""
