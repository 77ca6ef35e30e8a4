"""What the server logs, as text or JSON, and of which call a line is. No gRPC, no graph."""
