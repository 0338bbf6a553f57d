"""Sans-IO RADIUS: octets in, values out, and back. The only importer of pyrad."""
