"""What other systems wrote, and our own export: octets in, rows and faults out. No I/O."""
