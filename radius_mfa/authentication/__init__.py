"""The use case that server and portal share: an attempt in, a decision out."""
