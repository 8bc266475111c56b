# Unit tests on cmocka; each program is one file tests/unit/test_<module>.c with what it tests linked in.
if HAVE_CMOCKA
UNIT_TESTS = tests/unit/test_base
UNIT_TESTS += tests/unit/test_topo tests/unit/test_plan
UNIT_TESTS += tests/unit/test_quant tests/unit/test_simd
UNIT_TESTS += tests/unit/test_safetensors tests/unit/test_pth tests/unit/test_checkpoint tests/unit/test_convert
UNIT_TESTS += tests/unit/test_schema
UNIT_TESTS += tests/unit/test_calib
UNIT_TESTS += tests/unit/test_tok tests/unit/test_chat tests/unit/test_toolcall
UNIT_TESTS += tests/unit/test_store tests/unit/test_load
UNIT_TESTS += tests/unit/test_sampler tests/unit/test_generate
UNIT_TESTS += tests/unit/test_bench
UNIT_TESTS += tests/unit/test_metrics tests/unit/test_items tests/unit/test_history
UNIT_TESTS += tests/unit/test_result tests/unit/test_likelihood
UNIT_TESTS += tests/unit/test_vision
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
endif

%C%_unit_test_base_SOURCES = %D%/unit/test_base.c
%C%_unit_test_base_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_base_LDADD = src/base/libbase.la $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_topo_SOURCES = %D%/unit/test_topo.c
%C%_unit_test_topo_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_topo_LDADD = src/base/libbase.la $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_plan_SOURCES = %D%/unit/test_plan.c
%C%_unit_test_plan_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_plan_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_quant_SOURCES = %D%/unit/test_quant.c
%C%_unit_test_quant_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_quant_LDADD = quant/libquant.la src/base/libbase.la $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_simd_SOURCES = %D%/unit/test_simd.c
%C%_unit_test_simd_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_simd_LDADD = simd/libsimd.la quant/libquant.la src/base/libbase.la $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_safetensors_SOURCES = %D%/unit/test_safetensors.c
%C%_unit_test_safetensors_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_safetensors_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_pth_SOURCES = %D%/unit/test_pth.c
%C%_unit_test_pth_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_pth_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_checkpoint_SOURCES = %D%/unit/test_checkpoint.c %D%/unit/stage.c %D%/unit/stage.h
%C%_unit_test_checkpoint_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_checkpoint_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_convert_SOURCES = %D%/unit/test_convert.c %D%/unit/stage.c %D%/unit/stage.h
%C%_unit_test_convert_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_convert_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)
%C%_unit_test_calib_SOURCES = %D%/unit/test_calib.c %D%/unit/stage.c %D%/unit/stage.h
%C%_unit_test_calib_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_calib_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_tok_SOURCES = %D%/unit/test_tok.c
%C%_unit_test_tok_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_tok_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_chat_SOURCES = %D%/unit/test_chat.c
%C%_unit_test_chat_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_chat_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_vision_SOURCES = %D%/unit/test_vision.c
%C%_unit_test_vision_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_vision_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_bench_SOURCES = %D%/unit/test_bench.c
%C%_unit_test_bench_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_bench_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_schema_SOURCES = %D%/unit/test_schema.c
%C%_unit_test_schema_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_schema_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_toolcall_SOURCES = %D%/unit/test_toolcall.c
%C%_unit_test_toolcall_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_toolcall_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_store_SOURCES = %D%/unit/test_store.c
%C%_unit_test_store_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_store_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_load_SOURCES = %D%/unit/test_load.c
%C%_unit_test_load_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_load_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_sampler_SOURCES = %D%/unit/test_sampler.c
%C%_unit_test_sampler_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_sampler_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_generate_SOURCES = %D%/unit/test_generate.c
%C%_unit_test_generate_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_generate_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_likelihood_SOURCES = %D%/unit/test_likelihood.c %D%/unit/stage.c %D%/unit/stage.h
%C%_unit_test_likelihood_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_likelihood_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_result_SOURCES = %D%/unit/test_result.c
%C%_unit_test_result_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_result_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_metrics_SOURCES = %D%/unit/test_metrics.c
%C%_unit_test_metrics_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_metrics_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_items_SOURCES = %D%/unit/test_items.c
%C%_unit_test_items_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_items_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

%C%_unit_test_history_SOURCES = %D%/unit/test_history.c
%C%_unit_test_history_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_history_LDADD = $(CORRAL_LIBS) $(CMOCKA_LIBS) $(LIBRARIES_USED)

# Recorded machines (docs/testing.md).
EXTRA_DIST += %D%/unit/topo

# The style guide, kept by scripts; check_selftest.sh shows that each of them can fail.
STYLE_CHECKS = %D%/check_includes.sh %D%/check_headers.sh %D%/check_leftovers.sh %D%/check_man.sh \
    %D%/check_symbols.sh %D%/check_selftest.sh
dist_check_SCRIPTS += $(STYLE_CHECKS)
if !SANITIZE
TESTS += $(STYLE_CHECKS)
endif

# The text path against reference logits; the mutation tests link this program with a damaged object.
check_PROGRAMS += %D%/golden_logits
TESTS += %D%/golden_logits
%C%_golden_logits_SOURCES = %D%/golden_logits.c

# The image path, likewise.
check_PROGRAMS += %D%/golden_vision
TESTS += %D%/golden_vision
%C%_golden_vision_SOURCES = %D%/golden_vision.c
