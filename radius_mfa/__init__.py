"""A RADIUS server that adds a second factor to VPN logins."""

__version__ = "0.1.0"
