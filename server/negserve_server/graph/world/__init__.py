"""The embedded graph of countries, their neighbours, cities, waters and alliances."""
