"""``python -m foreword``: the command line."""

import sys

from foreword.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
