"""The online endpoint: a finished run, asked one image at a time over HTTP."""
