# The demo in emulated machines of several memory nodes (docs/testing.md).
EXTRA_DIST += %D%/check.py %D%/init

# make check-numa-vm KERNEL=/boot/vmlinuz-... takes that kernel; ONLY=two,four those machines alone. Not part of check: it
# takes minutes, packages and a kernel.
.PHONY: check-numa-vm
check-numa-vm: corral$(EXEEXT)
	@$(MKDIR_P) numavm
	@$(LIBTOOL) --mode=install $(INSTALL_PROGRAM) corral$(EXEEXT) '$(abs_builddir)/numavm/corral' >/dev/null
	@command -v python3 >/dev/null || { echo 'check-numa-vm: skipped; it needs python3'; exit 0; }; \
	  python3 '$(abs_srcdir)/tests/numa/check.py' $(KERNEL:%=--kernel '%') $(ONLY:%=--only '%') \
	    '$(abs_builddir)/numavm/corral' '$(abs_srcdir)/demo/model' '$(abs_builddir)/numavm'; \
	  rc=$$?; test $$rc = 77 || exit $$rc
