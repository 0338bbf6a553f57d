"""The program: ``radius-mfa``, or ``python -m radius_mfa``."""

import gc

gc.disable()  # what is imported stays; to look for garbage in it took a quarter of every start
from radius_mfa.cli import main  # noqa: E402

gc.enable()

if __name__ == "__main__":
    main()
