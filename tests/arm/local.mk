# The ARM kernels under emulation, in a build of its own in the subfolder arm/ (docs/testing.md).
EXTRA_DIST += %D%/check.sh %D%/setup.sh

.PHONY: check-arm
check-arm:
	@test '$(abs_srcdir)' != '$(abs_builddir)' || \
	  { echo 'check-arm needs a build outside the source folder: mkdir build && cd build && ../configure' >&2; exit 1; }
	@MAKE='$(MAKE)' $(SHELL) '$(abs_srcdir)/tests/arm/check.sh' '$(abs_srcdir)' '$(abs_builddir)/arm'
