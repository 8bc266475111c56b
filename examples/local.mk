# What docs/nightly.md describes, installed beside the documents.
examplesdir = $(docdir)/examples
dist_examples_DATA = %D%/corral-nightly.service %D%/corral-nightly.timer %D%/suite.json
dist_examples_SCRIPTS = %D%/nightly.sh
