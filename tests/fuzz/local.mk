# One fuzz harness per parser, fuzz_<name>.c with LLVMFuzzerTestOneInput. With replay.c it is a plain program which
# runs its property on files; replay_all.sh, part of `make check`, feeds it corpus/<name>/. `make fuzz` links the
# same files with libFuzzer instead (configure --enable-fuzz). A new harness adds two lines:
#
#   FUZZERS += %D%/fuzz_<name>
#   %C%_fuzz_<name>_LDADD = $(FUZZ_LIBS)
FUZZERS =
FUZZERS += %D%/fuzz_safetensors
%C%_fuzz_safetensors_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_pth
%C%_fuzz_pth_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_pickle
%C%_fuzz_pickle_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_config
%C%_fuzz_config_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_tokenizer
%C%_fuzz_tokenizer_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_toolcall
%C%_fuzz_toolcall_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_reference
%C%_fuzz_reference_LDADD = $(FUZZ_LIBS)
FUZZERS += %D%/fuzz_pack
%C%_fuzz_pack_LDADD = $(FUZZ_LIBS)

FUZZERS += %D%/fuzz_image
%C%_fuzz_image_LDADD = $(FUZZ_LIBS)

check_PROGRAMS += $(FUZZERS)
dist_check_SCRIPTS += %D%/replay_all.sh
EXTRA_DIST += %D%/corpus
TESTS += %D%/replay_all.sh
EXTRA_DIST += %D%/corpus

if FUZZ
FUZZ_LIBS = $(FUZZ_ENGINE) $(LDADD)
else
FUZZ_LIBS = %D%/libreplay.la $(LDADD)
endif
check_LTLIBRARIES += %D%/libreplay.la
%C%_libreplay_la_SOURCES = %D%/replay.c

fuzz-replay: $(FUZZERS)
	@$(AM_TESTS_ENVIRONMENT) $(SHELL) $(srcdir)/%D%/replay_all.sh

# Builds the harnesses with clang and libFuzzer in the subfolder fuzz/; run one as
#   fuzz/tests/fuzz/fuzz_<name> -max_total_time=60 NEW-FOLDER SRCDIR/tests/fuzz/corpus/<name>
fuzz:
	@$(MKDIR_P) fuzz
	@echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return !p && n; }' | \
	  clang -fsanitize=fuzzer,address -x c -o fuzz/probe - 2>/dev/null || \
	  { echo 'make fuzz needs clang and its libFuzzer (Debian: clang, libclang-rt-dev; Fedora: clang, compiler-rt)' >&2; exit 1; }
	@test -f fuzz/Makefile || (cd fuzz && '$(abs_srcdir)/configure' -q --enable-fuzz CC=clang CFLAGS='-O1 -g')
	$(MAKE) $(AM_MAKEFLAGS) -C fuzz $(FUZZERS)
