# Conversion of every form of a checkpoint, and what happens when it is killed.
dist_check_SCRIPTS += %D%/kinds.sh %D%/resume.sh
EXTRA_DIST += %D%/make_kinds.py %D%/make_bad.py %D%/kill.py %D%/make_large.py
TESTS += %D%/kinds.sh %D%/resume.sh
