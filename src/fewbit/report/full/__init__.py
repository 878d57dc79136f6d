"""All that is known of one quantized network, put together: what the page shows and the tables hold."""
