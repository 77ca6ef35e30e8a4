"""Checks of what users and peers give: fields, texts, addresses, PEM files. No values live here."""
