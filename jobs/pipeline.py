"""The entry point for a cluster: ray job submit --working-dir . -- python jobs/pipeline.py RECIPE --root URI

Inside a Ray job RAY_ADDRESS is set, so the run joins that cluster. The exit status is the job's.
"""

import sys

from medsae_ray.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    sys.exit(main())
