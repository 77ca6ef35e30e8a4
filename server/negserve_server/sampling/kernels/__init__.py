"""The sampling function, compiled. Functions take arrays by address; nothing here owns memory."""
