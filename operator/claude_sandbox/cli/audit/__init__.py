"""`claude-sandbox audit`: what gateways wrote of requests and tunnels, for people."""
