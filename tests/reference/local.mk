# Live comparison with transformers on fresh random checkpoints. Without the Python packages it says so and succeeds.
EXTRA_DIST += %D%/compare.py

check-reference: all
	@CORRAL='$(abs_top_builddir)/corral$(EXEEXT)' $${PYTHON:-python3} '$(srcdir)/%D%/compare.py' $(REFERENCE_ARGS); \
	  rc=$$?; test $$rc -eq 77 || exit $$rc
