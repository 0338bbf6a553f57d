"""Mails to users: what they say, and how they look on the wire. Pure: values in, octets out."""
