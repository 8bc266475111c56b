# The nightly script on the demo checkpoint and on damaged copies of it; runs with check-long.
dist_check_SCRIPTS += %D%/run.sh
EXTRA_DIST += %D%/damage.py
TESTS += %D%/run.sh
