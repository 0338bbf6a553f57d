"""Transports and processes: they carry octets and decide nothing."""
