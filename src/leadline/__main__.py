"""`python -m leadline`, the same as `leadline`."""

from __future__ import annotations

import sys

from leadline.cli import main

sys.exit(main())
