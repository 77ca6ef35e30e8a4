"""The sampling function, compiled. Helpers take arrays by address, so nothing here owns memory."""
