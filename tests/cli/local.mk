# Scripts with the output they must give; run.sh says how.
dist_check_SCRIPTS += %D%/run.sh
EXTRA_DIST += %D%
TESTS += %D%/run.sh
