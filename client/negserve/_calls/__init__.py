"""What both clients ask, as coroutines over a transport; how it is waited for is not known here."""
