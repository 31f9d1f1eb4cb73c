# SPDX-License-Identifier: GPL-2.0-only
# sphinx-build -b html Documentation build/html
project = "vhost_blk"
author = "vhost_blk developers"
extensions = []
exclude_patterns = []
html_theme = "alabaster"
